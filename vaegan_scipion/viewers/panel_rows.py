"""Where rows of panels stand in a figure, so that many of them stay readable on a screen."""
from typing import NamedTuple, Tuple

MOST_BELOW = 4  # rows below each other, before they stand in two or three blocks beside each other
MOST_BLOCKS = 3


class PanelRows(NamedTuple):
    """`n` rows of `n_columns` panels; of many rows blocks beside each other, each filled from its top."""

    n: int
    n_columns: int

    @property
    def n_blocks(self) -> int:
        """Blocks beside each other."""
        return min(-(-max(self.n, 1) // MOST_BELOW), MOST_BLOCKS)

    @property
    def n_below(self) -> int:
        """Rows of a block; an even number where there are several, so that pairs stay together."""
        below = -(-max(self.n, 1) // self.n_blocks)
        return below if self.n_blocks == 1 else below + below % 2

    def size_in(self, width_in: float, row_in: float, head_in: float) -> Tuple[float, float]:
        """Width and height of the figure, of a block so wide with rows so high below what stands at its head."""
        return width_in * self.n_blocks, row_in * self.n_below + head_in

    def subplot(self, row: int, column: int) -> Tuple[int, int, int]:
        """Matplotlib's rows, columns and number (from 1) of a panel."""
        block, below = divmod(row, self.n_below)
        wide = self.n_columns * self.n_blocks
        return self.n_below, wide, below * wide + block * self.n_columns + column + 1

    def is_first(self, row: int) -> bool:
        """Whether a row is the uppermost of its block."""
        return row % self.n_below == 0
