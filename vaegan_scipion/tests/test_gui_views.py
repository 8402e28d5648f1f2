"""The GUI session leaves no drawing of a viewer out: each is opened, or it is said why not."""
from unittest import TestCase, skipUnless

from vaegan_scipion import viewers
from vaegan_scipion.tests.test_gui import SCRIPT, script


@skipUnless(SCRIPT.exists(), "scripts/gui_views.py is not there (not a checkout)")
class TestGuiViews(TestCase):
    """Buttons of viewers against the lists of the session."""

    def setUp(self):
        self.gui = script("gui_views")
        self.viewers = {target: viewer for viewer in map(viewers.__dict__.get, viewers.__all__)
                        for target in viewer._targets}

    def buttons(self, viewer):
        """What the viewer's form can show."""
        return set(viewer._getVisualizeDict(viewer.__new__(viewer)))

    def test_every_drawing_is_opened(self):
        self.assertEqual(set(self.gui.VIEWS), set(self.viewers))
        for target, viewer in self.viewers.items():
            with self.subTest(viewer=viewer.__name__):
                self.assertLessEqual(set(viewer.DRAWINGS), set(self.gui.VIEWS[target]))

    def test_every_button_is_pressed_or_it_is_said_why_not(self):
        for target, viewer in self.viewers.items():
            with self.subTest(viewer=viewer.__name__):
                self.assertEqual(self.buttons(viewer) - set(self.gui.ELSEWHERE), set(self.gui.VIEWS[target]))

    def test_no_two_drawings_of_the_small_project_have_one_picture(self):
        names = [name for kind in self.gui.MADE_HERE for name in self.gui.VIEWS[kind].values()]
        self.assertEqual(len(names), len(set(names)))
