"""docs/use/mistakes.rst says what the code says: sixty mistakes, a sentence each, none a traceback, none silent."""
import os
import unittest
from pathlib import Path

from vaegan_scipion.engine.vaegan_engine.contract.wording import with_ring
from vaegan_scipion.tests.mistakes import all_mistakes, page_of, sentence_of
from vaegan_scipion.tests.phantom import ProjectTest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "use" / "mistakes.rst"
N_AT_LEAST = 60


@unittest.skipUnless(PAGE.parent.exists(), "not a checkout")
class TestMistakes(ProjectTest):
    """On the fake engine. VAEGAN_WRITE_PAGE=1 writes the page instead of comparing it."""

    def test_the_page_says_what_the_code_says(self):
        mistakes = all_mistakes(self)
        self.assertGreaterEqual(len(mistakes), N_AT_LEAST)
        self.assertEqual(len({mistake.what for mistake in mistakes}), len(mistakes))
        for mistake in mistakes:
            said = sentence_of(mistake)
            self.assertRegex(said, r"\w+ .*[.:]", mistake.what)
            self.assertEqual(said, with_ring(said), mistake.what)
            for bad in ("Traceback", "Protocol validation failed", "object has no attribute", "NoneType"):
                self.assertNotIn(bad, said, mistake.what)
        page = page_of(mistakes)
        if os.environ.get("VAEGAN_WRITE_PAGE"):
            PAGE.write_text(page)
        self.assertEqual(PAGE.read_text(), page, "write it again: VAEGAN_WRITE_PAGE=1 scipion3 tests "
                                                 "vaegan_scipion.tests.test_mistakes")
