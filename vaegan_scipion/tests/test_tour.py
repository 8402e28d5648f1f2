"""The pages for users name forms, fields and buttons that there are, and the tour the runs that the demo makes."""
import re
import unittest
from pathlib import Path

import pyworkflow.protocol.params as params
from pyworkflow.tests import BaseTest, setupTestProject

from vaegan_scipion import protocols, viewers
from vaegan_scipion.protocols.form_settings import label_of

ROOT = Path(__file__).resolve().parents[2]
TOUR = "docs/start/ten-minutes.rst"
PAGES = (TOUR, "docs/start/install.rst", "docs/use/to-relion.rst", "docs/use/umap.rst", "docs/use/one-blob.rst",
         "docs/use/outputs.rst")
SCIPIONS = {"Edit", "Analyze results", "Continue", "Restart", "Use GPU?"}
ON_FIGURES = {"Create subset", "Clear", "Save figure as ..."}  # buttons inside of a window
OTHER_PROGRAMS = {"Consider previous alignment?", "annotate space"}  # RELION's, Hax's
EMPHASIS = {"embedding", "n", "plateau"}  # words that are leaned on, and name no field
OUTPUTS = re.compile(r"output[A-Z]\w+")
IMAGES_OF_SESSION = {"project", "cards", "umap_lasso", "movie", "report", "curves"}


def italics(page):
    """What a page sets in italics, titles of links left out."""
    text = re.sub(r"\s+", " ", re.sub(r"``.*?``|:doc:`.*?`", "", (ROOT / page).read_text(), flags=re.DOTALL))
    return re.findall(r"(?<![*\w])\*([^*`]+?)\*(?![*\w])", text)


@unittest.skipUnless((ROOT / TOUR).exists(), "not a checkout")
class TestTour(BaseTest):
    """Words of pages against the classes."""

    @classmethod
    def setUpClass(cls):
        setupTestProject(cls)

    def names(self):
        """Labels of protocols, tabs, fields, choices and buttons."""
        known = set()
        made = [self.newProtocol(getattr(protocols, name)) for name in protocols.__all__]
        for item in [*made, *(getattr(viewers, name)(project=self.proj) for name in viewers.__all__)]:
            known.add(type(item)._label)
            form = params.Form(item)
            type(item)._defineParams(item, form)  # a viewer hides its own until it has a run
            known |= {str(section.getLabel()) for section in form.iterSections()}
            for _, param in form.iterParams():
                known.add(label_of(param))
                known |= set(map(str, param.choices)) if isinstance(param, params.EnumParam) else set()
        return known | {re.sub(r" \([^)]*\)$", "", name) for name in known}

    def test_what_pages_name_is_there(self):
        known, found = self.names() | SCIPIONS | ON_FIGURES | OTHER_PROGRAMS | EMPHASIS, 0
        for page in PAGES:
            for name in italics(page):
                found += 1
                with self.subTest(page=page):
                    self.assertTrue(name in known or OUTPUTS.match(name), name)
        self.assertGreater(found, 40)

    def test_the_runs_of_the_tour_are_those_of_the_demo(self):
        made = re.findall(r'"([^"]+)"\)$', re.sub(r"\),\n\s+", "), ", (ROOT / "scripts/demo_project.py").read_text()),
                          flags=re.MULTILINE)
        steps = re.search(r"\*\*1\. The project\.\*\* (\w+) runs, the road: (.*?)\. Each", (ROOT / TOUR).read_text(),
                          re.DOTALL)
        self.assertEqual(steps.group(1), "Six")
        told = re.sub(r"\s+", " ", steps.group(2))
        runs = [name for name in ("import particles", "find states and poses", "train 3D", "embed and cluster",
                                  "PCA traversal", "select state 1") if name in made]
        self.assertEqual(len(runs), 6, made)
        places = [told.index(name) for name in ("import", "find states and poses", "train 3D", "embed and cluster",
                                                "PCA traversal", "select and export")]
        self.assertEqual(places, sorted(places))

    def test_the_pictures_are_those_of_the_session(self):
        shown = set(re.findall(r"images/(\w+)\.png", (ROOT / TOUR).read_text()))
        self.assertEqual(shown, IMAGES_OF_SESSION)
        session = "".join((ROOT / f"scripts/{name}.py").read_text() for name in ("gui_session", "gui_views"))
        for name in shown:
            self.assertIn(f'"{name}', session)
