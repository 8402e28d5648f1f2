"""Results of compare runs: how far every two runs agree, how often each group came back, the report."""
from typing import Any, Callable, Dict, List

import numpy as np
import pyworkflow.protocol.params as params
from matplotlib.figure import Figure

from ..engine.vaegan_engine.contract.analysis_records import STABLE, ConsensusSummary
from ..engine.vaegan_engine.contract.labels import GROUPS, Naming
from ..protocols import VaeganProtConsensus
from .viewer_base import VaeganViewer


class VaeganConsensusViewer(VaeganViewer):
    """Viewer of compare runs."""

    _label = "viewer comparison"
    _targets = [VaeganProtConsensus]
    DRAWINGS = ("showAnswer", "showPairs", "showGroups")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showAnswer", params.LabelParam, label="Answer", help="What the runs agree on, in one sentence.")
        form.addParam("showPairs", params.LabelParam, label="Agreement of every two runs",
                      help="Adjusted Rand index: 1 where the groups are the same, 0 where they agree by chance.")
        form.addParam("showGroups", params.LabelParam, label="How often each group came back",
                      help="Overlap of each group with its partner in each run: particles in both over all of the two.")
        form.addParam("showTable", params.LabelParam, label="Particles that all runs agree on",
                      help="The output set as a table.")
        self._add_report_button(form)
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showAnswer": self._answer, "showPairs": self._pairs, "showGroups": self._groups,
                "showTable": lambda _name=None: self.table_view("outputParticles"), "showReport": self._report,
                "savePictures": self._save_pictures}

    def _answer(self, _name: Any = None) -> List[Any]:
        made = self.protocol.readConsensus()
        return self.sentence_view(f"Of {len(made.runs)} runs compared: {made.verdict}. {100 * made.agreed_frac:.1f} % "
                                  "of the particles are in the same group in all of them.")

    def _naming(self) -> Naming:
        return GROUPS[self.protocol.getGroups()]

    def _pairs(self, _name: Any = None) -> List[Any]:
        made = self.protocol.readConsensus()
        return self.figure_view(draw_pairs, made, self.protocol.getRunNames(), title="Agreement of runs",
                                size_in=(3.0 + 0.9 * len(made.runs), 2.4 + 0.9 * len(made.runs)))

    def _groups(self, _name: Any = None) -> List[Any]:
        made = self.protocol.readConsensus()
        if not made.groups:
            return [self.errorMessage("The run that agrees best with the others has no group.", "Nothing to show")]
        height_in = 1.4 + 0.2 * len(made.runs) + 0.28 * len(made.groups) * (len(made.runs) + 1)
        return self.figure_view(draw_groups, made, self.protocol.getRunNames(), self._naming(),
                                title="Groups that came back", size_in=(7.5, height_in))

    def _report(self, _name: Any = None) -> List[Any]:
        return self.report_view(None, consensus=self.protocol)


def draw_pairs(figure: Figure, made: ConsensusSummary, names: List[str]) -> Figure:
    """A square per two runs with their adjusted Rand index, darker where they agree."""
    n = len(made.runs)
    ari = np.eye(n)
    for pair in made.pairs:
        ari[pair.runs[0], pair.runs[1]] = ari[pair.runs[1], pair.runs[0]] = pair.ari
    axes = figure.add_subplot()
    shown = axes.imshow(ari, cmap="Blues", vmin=0, vmax=1)
    for row in range(n):
        for column in range(n):
            axes.text(column, row, "" if row == column else f"{ari[row, column]:.2f}", ha="center", va="center",
                      color="white" if ari[row, column] > 0.6 else "black")
    axes.set_xticks(range(n), [f"run {k + 1}" for k in range(n)], fontsize=8)
    axes.set_yticks(range(n), [f"run {k + 1}" for k in range(n)], fontsize=8)
    axes.set_title("adjusted Rand index of every two runs", fontsize=10)
    axes.set_xlabel(numbered(names), fontsize=8, loc="left")
    figure.colorbar(shown, ax=axes, fraction=0.04)
    figure.tight_layout()
    return figure


def draw_groups(figure: Figure, made: ConsensusSummary, names: List[str], naming: Naming) -> Figure:
    """Bars of each group's overlap with its partner in every run; a line where a group is taken to be stable."""
    axes, height, ticks = figure.add_subplot(), 0.0, []
    for group in made.groups:
        for number, overlap in enumerate(group.overlap, start=1):
            first = f"{naming.name(group.label)}, {group.n_particles} particles: " if number == 1 else ""
            ticks.append((height, f"{first}run {number}"))
            axes.barh(height, overlap, color=naming.colour(group.label), height=0.8)
            height += 1
        height += 0.6
    axes.axvline(STABLE, color="black", linestyle="--", linewidth=0.8)
    axes.set_yticks([at for at, _ in ticks], [text for _, text in ticks], fontsize=8)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(f"overlap with its partner in each run (stable from {STABLE:g} on)\n{numbered(names)}", fontsize=8)
    axes.invert_yaxis()
    figure.tight_layout()
    return figure


def numbered(names: List[str]) -> str:
    """A line per run: its number in the pictures, and its name."""
    return "\n".join(f"run {number}: {name[:60]}" for number, name in enumerate(names, start=1))
