"""What a run takes through the runs that it is given: the particles of a training, the states it was made at.

A scheduled run waits in a process that has a copy of the project as it was when the run was scheduled. Scipion brings
up to date there what the form's own fields point to, and nothing further up: particles that were not there yet would
never be seen.
"""
import os
from typing import Any, Iterator, Optional, Set, Tuple

from pwem.protocols import EMProtocol
from pyworkflow.object import Pointer


def waits_in_its_scheduler(run: Any) -> bool:
    """Whether this is the process that waits for the inputs of a scheduled run: its project is the run's own copy."""
    project = run.getProject()
    return bool(run.isScheduled() and project is not None
                and os.path.basename(project.getDbPath()) == os.path.basename(run.getDbPath()))


def pointers_before(run: Any, kinds: Any, seen: Optional[Set[str]] = None) -> Iterator[Tuple[str, Any]]:
    """(name, pointer) of every input of the runs of these classes that a run takes, and of those that they take.

    Names are paths: "inputTraining.inputStates". A run is pointed to by its list of outputs: Scipion lets a run wait
    for one that its own form names until it has finished, and those further up need not (a training that was stopped
    and then continued by another).
    """
    seen = set() if seen is None else seen
    for name, pointer in list(EMProtocol.iterInputAttributes(run)):
        before = pointer.getObjValue()
        if not isinstance(before, kinds) or before.strId() in seen:
            continue
        seen.add(before.strId())
        for further, taken in list(EMProtocol.iterInputAttributes(before)):
            is_run = isinstance(taken.get(), EMProtocol)
            yield f"{name}.{further}", Pointer(taken.getObjValue(), extended="_outputs") if is_run else taken
        for further, taken in pointers_before(before, kinds, seen):
            yield f"{name}.{further}", taken
