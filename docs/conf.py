"""Sphinx: `make docs` builds the site into build/docs; a warning is an error."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "vaegan_scipion" / "engine"))

project = "scipion-em-vaegan"
author = "scipion-em-vaegan developers"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "myst_parser"]
html_theme = "furo"
html_title = "scipion-em-vaegan"
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["images"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
suppress_warnings = ["myst.header"]
