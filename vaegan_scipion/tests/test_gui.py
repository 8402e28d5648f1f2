"""The real GUI, driven by mouse on a virtual display: every form and viewer comes up, a lasso becomes a subset run."""
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import TestCase, skipIf

from vaegan_scipion import protocols

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gui.py"
# beside those of viewers, see gui_views.py
PICTURES = ("project", "no_chimerax", "classes", "umap_lasso", "umap_created", "project_after", "wizard_size")


def script(name):
    """A module of `scripts`."""
    spec = importlib.util.spec_from_file_location(name, SCRIPT.with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reason_to_skip():
    """Why the GUI cannot be driven here; '' when it can."""
    if not SCRIPT.exists():
        return "scripts/gui.py is not there (not a checkout)"
    lacking = script("gui").missing_programs()
    return f"not installed: {' '.join(lacking)}" if lacking else ""


class TestGui(TestCase):
    """One session on one display."""

    @skipIf(reason_to_skip(), reason_to_skip())
    def test_a_session_with_the_mouse(self):
        with tempfile.TemporaryDirectory() as folder:
            made = subprocess.run([sys.executable, str(SCRIPT), "--out", folder], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
            self.assertEqual(made.returncode, 0, made.stdout[-3000:])
            forms = ["form_" + name.replace("VaeganProt", "").lower() for name in protocols.__all__]
            made_pictures = {path.stem for path in Path(folder).glob("*.png")} - {"report"}  # that needs chromium
            tabs = {name for name in made_pictures if re.search(r"_\d$", name)}  # of a form, from the second on
            of_viewers = script("gui_views").pictures_of_viewers()
            self.assertEqual(sorted(made_pictures - tabs), sorted([*PICTURES, *forms, *of_viewers]))
            self.assertGreaterEqual(len(tabs), 8)
        lasso, = [line for line in made.stdout.splitlines() if line.startswith("lasso:")]
        self.assertIn("exactly those inside the polygon", lasso)
