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
PICTURES = ("project", "viewer_train3d", "viewer_cluster", "viewer_traverse", "viewer_evaluate", "curves", "components",
            "density", "coloured", "cards", "maps", "fsc", "strips", "movie", "counts", "no_chimerax", "classes",
            "umap_lasso", "umap_created", "project_after", "viewer_states", "viewer_classes2d", "answer", "surfaces",
            "states_answer", "states_verdict", "states_cards", "states_surfaces", "states_views", "states_fsc",
            "states_film", "states_junk", "wizard_size", "classes_answer", "classes_averages", "classes_frc",
            "classes_junk", "viewer_consensus", "consensus_answer", "consensus_pairs", "consensus_groups")


def reason_to_skip():
    """Why the GUI cannot be driven here; '' when it can."""
    if not SCRIPT.exists():
        return "scripts/gui.py is not there (not a checkout)"
    spec = importlib.util.spec_from_file_location("gui", SCRIPT)
    gui = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gui)
    lacking = gui.missing_programs()
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
            self.assertEqual(sorted(made_pictures - tabs), sorted([*PICTURES, *forms]))
            self.assertGreaterEqual(len(tabs), 8)
        lasso, = [line for line in made.stdout.splitlines() if line.startswith("lasso:")]
        self.assertIn("exactly those inside the polygon", lasso)
