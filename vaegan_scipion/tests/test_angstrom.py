"""Å with its ring wherever a user reads it: labels and help of forms, and every text of the plugin's own sources.

The command line stays ASCII (docs/develop/decisions.rst); what of it is shown here goes through `with_ring`.
"""
import ast
import unittest
from pathlib import Path

from vaegan_scipion import protocols
from vaegan_scipion.engine.vaegan_engine.contract.wording import with_ring
from vaegan_scipion.tests.phantom import ProjectTest

PLUGIN = Path(__file__).resolve().parents[1]


def texts_of(path):
    """(line, text) of every string of a file but docstrings; 0 in place of what is filled in."""
    tree, told = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            told.add(id(node.body[0].value))
        if isinstance(node, ast.JoinedStr):
            told.update(map(id, ast.walk(node)))
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "0" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.lineno, node.value


class TestWords(unittest.TestCase):
    """What is a unit and what is not."""

    def test_units(self):
        for text, expected in (
                ("12.5 A at FSC 0.143", "12.5 Å at FSC 0.143"), ("Diameter (A; empty: 4)", "Diameter (Å; empty: 4)"),
                ("B-factor (A^2)", "B-factor (Å²)"), ("3.5 A/px", "3.5 Å/px"), ("1/A", "1/Å"), ("in A.", "in Å."),
                ("In A, in", "In Å, in"),
                ("80 A 171.7, 96 A 138.0", "80 Å 171.7, 96 Å 138.0")):
            self.assertEqual(with_ring(text), expected)
        for text in ("A map of state A", "GPU 'A'", "(A training)", "state 3: A, B", "rotations A of 3"):
            self.assertEqual(with_ring(text), text)

    def test_sources_of_the_plugin(self):
        files = [path for path in PLUGIN.rglob("*.py") if not {"engine", "tests"} & set(path.parts[len(PLUGIN.parts):])]
        self.assertGreater(len(files), 50)
        for path in files:
            for line, text in texts_of(path):
                self.assertEqual(with_ring(text), text, f"{path.name}:{line}")


class TestForms(ProjectTest):
    """Labels and help, those made from the engine's settings too."""

    def test_every_field(self):
        with_unit = 0
        for name in protocols.__all__:
            for field, param in self.newProtocol(getattr(protocols, name))._definition.iterParams():
                for text in (str(param.label.get()), str(param.help.get())):
                    self.assertEqual(with_ring(text), text, f"{name}.{field}")
                    with_unit += "Å" in text
        self.assertGreater(with_unit, 10)
