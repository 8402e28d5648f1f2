"""What a run will take: the line of a form whose wizard says it before, and what its summary says while it runs."""
import os
from typing import Any, List

import pyworkflow.protocol.params as params

from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.errors import EngineError
from ..engine.vaegan_engine.contract.record import read_record
from ..engine.vaegan_engine.contract.records import Forecast
from ..engine.vaegan_engine.contract.wording import forecast_text
from ..engine_run import has_result

COST_FIELD = "expectedCost"


def add_cost_line(form: Any) -> None:
    """A line without a value; the wizard beside it measures."""
    form.addParam(COST_FIELD, params.LabelParam, label="Time, memory and disk this will take",
                  help="The wizard measures on this machine, with the form as it stands, and says it stage by stage; "
                       "half a minute is usual. Nothing is run. From 5,000 particles on the run's summary says it too.")


def cost_note(folder: Any) -> List[str]:
    """The forecast that the engine left in its folder before a large run, one sentence; nothing where there is none."""
    if not has_result(folder, result_files.FORECAST_JSON):
        return []
    try:
        text = forecast_text(read_record(Forecast, os.path.join(str(folder), result_files.FORECAST_JSON), "the run"))
    except EngineError:  # half written, or by another version
        return []
    return [text[:1].upper() + text[1:] + "."]
