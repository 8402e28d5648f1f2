"""Progress with a rate and the time left, on a terminal and in a log file alike."""
from __future__ import annotations

import sys

from tqdm import tqdm

from .place import is_first

LOG_INTERVAL_S = 10.0
_STATE_FORMAT = "{n_fmt}/{total_fmt}{unit}, {rate_fmt}, {remaining} left{postfix}"
_TERMINAL_FORMAT = "{desc}: {percentage:3.0f} %|{bar}| " + _STATE_FORMAT
_LOG_FORMAT = "{desc}: {percentage:.0f} %, " + _STATE_FORMAT


class _LogProgress(tqdm):
    """One finished line per interval in place of a bar that is redrawn."""

    monitor_interval = 0  # no watcher thread: a late line does no harm
    disable: bool
    _n_written = -1

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the state as a line of its own, unless it was written already."""
        if self.n != self._n_written:
            self._n_written = self.n
            self.fp.write(f"{self}\n".lstrip() if msg is None else f"{msg}\n")
            self.fp.flush()

    def close(self) -> None:
        """Write the last state and stop."""
        if not self.disable:
            self.display()
            self.disable = True


def progress_bar(total: int, desc: str, unit: str, enabled: bool = True, initial: int = 0) -> tqdm:
    """Return a tqdm bar: a context manager with ``update(n)``.

    Parameters
    ----------
    total : number of units in all
    desc, unit : what is done, and the plural of what is counted ("images" shows images/s)
    enabled : False shows nothing
    initial : units done before (a resumed run), left out of the rate

    When standard error is no terminal, a line is written at most every 10 s.
    """
    terminal = sys.stderr.isatty()
    kind = tqdm if terminal else _LogProgress
    return kind(total=total, desc=desc, unit=f" {unit}", initial=initial, disable=not (enabled and is_first()),
                file=sys.stderr, mininterval=0.2 if terminal else LOG_INTERVAL_S,
                maxinterval=LOG_INTERVAL_S, dynamic_ncols=terminal,
                bar_format=_TERMINAL_FORMAT if terminal else _LOG_FORMAT)
