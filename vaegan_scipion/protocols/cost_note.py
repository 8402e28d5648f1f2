"""What a run was expected to take, for its summary while it runs."""
import os
from typing import Any, List

from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.errors import EngineError
from ..engine.vaegan_engine.contract.record import read_record
from ..engine.vaegan_engine.contract.records import Forecast
from ..engine.vaegan_engine.contract.wording import forecast_text
from ..engine_run import has_result


def cost_note(folder: Any) -> List[str]:
    """The forecast that the engine left in its folder before a large run, one sentence; nothing where there is none."""
    if not has_result(folder, result_files.FORECAST_JSON):
        return []
    try:
        text = forecast_text(read_record(Forecast, os.path.join(str(folder), result_files.FORECAST_JSON), "the run"))
    except EngineError:  # half written, or by another version
        return []
    return [text[:1].upper() + text[1:] + "."]
