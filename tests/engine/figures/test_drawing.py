"""Strips of pictures stay small enough to be drawn and looked at."""
import numpy as np
import pytest
from vaegan_engine.figures import drawing

PICTURE = np.arange(64.0).reshape(8, 8)


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_of_a_long_row_pictures_are_shown_at_even_steps_from_the_first_to_the_last():
    figure = drawing.density_strip([[(PICTURE, str(k)) for k in range(300)]], [0])
    shown = [int(title) for title in titles(figure)]
    assert (shown[0], shown[-1], len(shown)) == (0, 299, drawing.MOST_COLUMNS)
    assert set(np.diff(shown)) == {13}


def test_of_many_rows_the_first_are_shown_and_the_picture_says_so():
    figure = drawing.density_strip([[(PICTURE, str(k))] for k in range(drawing.MOST_ROWS + 5)],
                                   range(drawing.MOST_ROWS + 5))
    assert titles(figure) == [str(k) for k in range(drawing.MOST_ROWS)]
    assert figure.get_suptitle() == f"the first {drawing.MOST_ROWS} of {drawing.MOST_ROWS + 5} rows"


@pytest.mark.parametrize("n", [1, drawing.MOST_COLUMNS])
def test_a_short_row_is_shown_whole(n):
    figure = drawing.density_strip([[(PICTURE, str(k)) for k in range(n)]], [0])
    assert titles(figure) == [str(k) for k in range(n)] and not figure.get_suptitle()
