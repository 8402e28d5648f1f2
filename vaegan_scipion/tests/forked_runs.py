"""Protocol runs as forks of the test's process: Scipion's start, most of a short run's time, is paid once.

A run is still a process of its own that reads the protocol from the project's database and writes its logs, as
``pw_protocol_run.py`` does; only the interpreter and the imports are those of the test.
"""
import os
import shlex
import sys
import traceback
from unittest.mock import patch

import pyworkflow.project  # noqa: F401  (loads the module below)
from pyworkflow.protocol import runProtocolMain
from pyworkflow.utils import LoggingConfigurator

# the package has a function of this name, which hides the module
LAUNCH = sys.modules["pyworkflow.protocol.launch"]
SCRIPT = "pw_protocol_run.py"
start_process = LAUNCH._run


def run_of(command):
    """(project folder, database, protocol id, log, error log) of Scipion's command that runs a protocol; else None."""
    words = shlex.split(command)
    return words[2:] if len(words) == 7 and os.path.basename(words[1]) == SCRIPT else None


def start(command, wait, stdin=None, stdout=None, stderr=None):
    """What ``pyworkflow.protocol.launch._run`` does, by a fork where a protocol's run is waited for."""
    run = run_of(command)
    if run is None or not wait:
        return start_process(command, wait, stdin, stdout, stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        run_and_leave(*run)
    os.waitpid(pid, 0)
    return pid


def run_and_leave(project, database, protocol_id, log, error_log):
    """The whole life of a fork; nothing of the test's own clean-up happens in it."""
    try:
        LoggingConfigurator.setUpProtocolRunLogging(log, error_log)
        runProtocolMain(project, database, int(protocol_id))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def forked_runs():
    """A patch to be started and stopped."""
    return patch.object(LAUNCH, "_run", start)
