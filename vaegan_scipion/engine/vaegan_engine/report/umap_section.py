"""The interactive embedding of the HTML report: its data, and the elements that page.js fills.

Dots have the colours of their clusters or, where there are states, of those; what is shown can be selected and saved.
"""
from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contract.labels import CLUSTERS, STATES, UNASSIGNED, Naming
from ..data.particle_tables import Clusters
from .html import Section

BUTTONS = (("select", "Select: draw around particles"), ("move", "Move the plot"), ("fit", "Show all"),
           ("save-ids", "Save selected ids (.txt)"), ("save-table", "Save selected rows (.csv)"),
           ("clear", "Clear the selection"))
COLOURED_BY = ("cluster", "state")


def umap_data(clusters: Clusters, state_of: Mapping[int, int] | None = None) -> str:
    """JSON with base64 arrays of the embedding, safe inside a script element; ``state_of``: particle id -> state."""
    stored: dict[str, Any] = {
        "x": _text(clusters.umap[:, 0], "<f4"), "y": _text(clusters.umap[:, 1], "<f4"),
        "id": _text(clusters.particle_id, "<i8"), "colourings": [_coloured(COLOURED_BY[0], clusters.label, CLUSTERS)]}
    if state_of is not None:
        states = np.array([state_of.get(i, UNASSIGNED) for i in clusters.particle_id.tolist()], np.int64)
        stored["colourings"].append(_coloured(COLOURED_BY[1], states, STATES))
    return json.dumps(stored).replace("<", "\\u003c")


def _text(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _coloured(name: str, labels: np.ndarray, naming: Naming) -> dict[str, Any]:
    """One way to colour the dots: label of each, and name, colour and count of each group, what is in none last."""
    present = sorted(set(labels.tolist()), key=lambda label: (label < 0, label))
    return {"name": name, "label": _text(labels, "<i2"), "groups": [
        {"label": label, "name": naming.name(label), "colour": naming.colour(label),
         "count": int((labels == label).sum())} for label in present]}


def umap_section(with_states: bool) -> Section:
    """The canvas with its buttons and its legend."""
    buttons = "".join(f'<button id="umap-{name}" type="button">{text}</button>' for name, text in BUTTONS)
    choices = "".join(f'<option value="{k}">by {name}</option>' for k, name in enumerate(COLOURED_BY))
    colour = f'<label>Colours <select id="umap-colour">{choices}</select></label>' if with_states else ""
    return Section("umap-section", "UMAP", (
        '<p class="note">Every dot is a particle; near dots look alike to the encoder. The wheel zooms. Distances '
        "between far groups, sizes and shapes of groups carry no meaning. Shift adds to the selection.</p>"
        '<div id="umap"><div><canvas id="umap-canvas"></canvas><div id="umap-hover"></div></div>'
        f'<div id="umap-side">{buttons}<div id="umap-info"></div>{colour}<div id="umap-legend"></div></div></div>'))
