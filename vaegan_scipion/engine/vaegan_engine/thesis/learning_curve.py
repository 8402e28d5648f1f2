"""Learning curves of ``reproduce ribosome-3d`` and ``-2d``: what a training's z separates, after each part of it.

The training stops at each point, is embedded, clustered and scored as at its end, and goes on from its checkpoint.
Beside the clusters' NMI stands that of the labels which the 20 nearest neighbours in z vote for, each particle
predicted by others alone (five parts): what z holds of the states, however it is clustered.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..contract import result_files
from ..figures import drawing
from ..stats.label_agreement import agreement
from .experiment_tables import ReproduceOptions

CURVE_CSV, CURVES_PNG, POINTS = "curve.csv", "curves.png", "points"
N_NEIGHBOURS, N_FOLDS = 20, 5
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


class Point(NamedTuple):
    """One point; nan is what a configuration does not have."""

    kimg: float
    clusters: int
    nmi: float
    nmi_neighbours: float  # of the labels that neighbours in z vote for
    correlation: float  # mean, of the true states' decoded maps with the truth
    kl: float
    scf: float
    noise_sigma: float


def lengths_kimg(options: ReproduceOptions, total_kimg: float, batch: int) -> list[float]:
    """Length of the training at each point, whole batches each; the last is the whole training."""
    parts = [round(total_kimg * 1000 * part / options.points / batch) * batch / 1000
             for part in range(1, options.points)]
    return [*dict.fromkeys(part for part in parts if 0 < part < total_kimg), total_kimg]


def neighbours_nmi(z: np.ndarray, state: np.ndarray) -> float:
    """NMI of the labels that ``N_NEIGHBOURS`` particles of the other parts vote for, ``z`` ``(n, k)``."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    folds = min(N_FOLDS, int(np.bincount(state).min()))
    if folds < 2:
        return float("nan")
    known = len(z) - -(-len(z) // folds)
    voted = cross_val_predict(KNeighborsClassifier(min(N_NEIGHBOURS, known)), z, state,
                              cv=StratifiedKFold(folds, shuffle=True, random_state=0))
    return float(agreement(voted, state)["nmi"])


def read_curve(folder: Path) -> list[Point]:
    """The points of a configuration, by length."""
    path = folder / CURVE_CSV
    if not path.exists():
        return []
    return [Point(float(row["kimg"]), int(row["clusters"]), *(float(row[name]) for name in Point._fields[2:]))
            for row in result_files.read_csv(path)]


def add_point(folder: Path, point: Point) -> None:
    """Add a point to ``curve.csv``, in place of one of the same length."""
    points = [other for other in read_curve(folder) if other.kimg != point.kimg]
    result_files.write_csv(folder / CURVE_CSV, Point._fields, sorted([*points, point]))


def draw_curves(out_dir: Path, names: Sequence[str]) -> None:
    """Scores, maps and what the networks do, against images shown; configurations without a curve are left out."""
    curves = {name: read_curve(out_dir / name) for name in names}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        return
    figure = drawing.new_figure(14, 3.6)
    axes: Any = figure.subplots(1, 4)
    shown = ((("nmi", "-"), ("nmi_neighbours", "--")), (("correlation", "-"),), (("kl", "-"),), (("noise_sigma", "-"),))
    for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
        kimg = [point.kimg for point in points]
        for ax, columns in zip(axes, shown, strict=True):
            for column, line in columns:
                ax.plot(kimg, [getattr(point, column) for point in points], line, color=colour, marker=".",
                        label=name if line == "-" else f"{name}, neighbours with labels")
    labels = ("NMI with the states", "correlation with the true maps", "KL of z", "sigma of the noise generator")
    for ax, label in zip(axes, labels, strict=True):
        ax.set(xlabel="thousands of images shown", ylabel=label)
    axes[0].set_ylim(-0.02, 1.02)
    axes[0].legend(fontsize=6)
    drawing.save_png(figure, out_dir / CURVES_PNG)
