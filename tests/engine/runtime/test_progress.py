"""Progress in a log: finished lines with rate and time left, few of them."""
from vaegan_engine.runtime.progress import progress_bar


def test_log_lines_hold_rate_and_time_left(capsys):
    with progress_bar(10, "Reading", "images") as bar:
        bar.mininterval = 0.0
        for _ in range(2):
            bar.update(5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Reading: 0 %, 0/10 images")
    assert lines[-1].startswith("Reading: 100 %, 10/10 images")
    assert all("images/s" in line and "left" in line for line in lines)
    assert "\r" not in "".join(lines)


def test_lines_come_at_most_once_per_interval(capsys):
    with progress_bar(5000, "Steps", "steps") as bar:
        for _ in range(5000):
            bar.update()
    assert len(capsys.readouterr().err.splitlines()) == 2  # the first and the last


def test_nothing_is_shown_when_switched_off(capsys):
    with progress_bar(3, "x", "images", enabled=False) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
