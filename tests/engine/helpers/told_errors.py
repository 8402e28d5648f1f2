"""How a process of several ends with an error, as the command line does: the first one says it."""
import contextlib
import sys
from collections.abc import Iterator

from vaegan_engine.contract.errors import EngineError
from vaegan_engine.runtime import processes
from vaegan_engine.runtime.place import is_first


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
    """Leave the process with the exit code of an error within."""
    try:
        yield
    except EngineError as error:
        if is_first():
            print(error, file=sys.stderr)
        else:
            processes.tell_failure(error)
        sys.exit(error.exit_code)
