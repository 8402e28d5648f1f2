"""The forecast of a large run in its summary."""
import os
import tempfile
import unittest

from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.record import write_record
from ..engine.vaegan_engine.contract.records import Forecast
from ..protocols.cost_note import cost_note


class TestCostNote(unittest.TestCase):
    def test_forecast_is_a_sentence(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(cost_note(folder), [])
            path = os.path.join(folder, result_files.FORECAST_JSON)
            write_record(path, Forecast("states", 130000, 5400.0, 9000.0, 2.0, 1.1, {"starts": 5400.0}, 9.0))
            self.assertEqual(cost_note(folder), [
                "Expected for 130,000 particles on this machine: about 1.5 h (2.5 h where the particles need more), "
                "2.0 GB of memory, 1.1 GB on disk."])
            with open(path, "w") as stream:
                stream.write("{")
            self.assertEqual(cost_note(folder), [])
