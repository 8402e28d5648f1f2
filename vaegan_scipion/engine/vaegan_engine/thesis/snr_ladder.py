"""``reproduce fast-ladder``: what the preset ``fast`` separates without poses, from an SNR of 60 down to 0.2.

At each SNR the same three ribosome states are simulated, trained on, embedded and clustered as a user would, by the
product's own settings. Beside the clusters stand three figures that are told more:

* the labels that 20 neighbours in z vote for (``learning_curve``): what z holds, however it is clustered;
* a classifier of the encoder's shape that is shown the true labels, one image at a time and without poses
  (``evaluation.truth.ceiling``): what invariant features of one image can hold, trained on as many images;
* the ideal observer, who knows the true maps and tries every pose (``evaluation.truth.observer``): what poses give.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contract.settings import ClusterRun, EvaluateRun
from ..data.particle_tables import read_latents, read_truth, rows_of
from ..data.run_images import open_run_cache
from ..evaluation.truth.ceiling import CeilingOptions, run_ceiling
from ..evaluation.truth.evaluate import run_evaluate
from ..evaluation.truth.observer import ObserverOptions, run_observer
from ..figures import drawing
from ..training.signal_power import estimated_snr
from . import experiment_tables, learning_curve
from .experiment_tables import ReproduceOptions, TableRow
from .ribosome import MAPS
from .trainings import (
    SMALL_BOX_PX,
    Configuration,
    embedded,
    finished,
    maps_of,
    settings,
    simulated,
    trained,
    training_columns,
    training_command,
    truth_of,
)

SNRS = {f"snr-{snr:g}": snr for snr in (60.0, 10.0, 4.0, 2.0, 1.0, 0.2)}
CROP_FRAC = {"small": 0.75, "full": 1.0}  # of the maps' box, which is twice the particle and 64 px
# The preset's own networks and rates; a quarter of its length
SMALL: dict[str, Any] = {"data": {"box_px": SMALL_BOX_PX},
                         "training": {"total_kimg": 12.0, "encoder_kimg": 24.0, "checkpoint_kimg": 12.0}}
CEILING = {"small": CeilingOptions(epochs=8, folds=2), "full": CeilingOptions()}
OBSERVED = {"small": ObserverOptions(n_images=300), "full": ObserverOptions()}
CURVES = (("nmi", "-", "clusters, without labels"), ("nmi_neighbours", "--", "20 neighbours in z, shown labels"),
          ("ceiling_nmi", "-", "classifier, shown labels"), ("observer_nmi", "-", "ideal observer, who knows the maps"))


def run(options: ReproduceOptions, out_dir: Path) -> str:
    """Run the SNRs that are asked for, then write the table and figure of all that are finished."""
    maps = maps_of(options, MAPS)
    wanted = [Configuration(name, "train3d", "fast", small=SMALL)
              for name in experiment_tables.chosen(options, list(SNRS))]
    if options.plan:
        lines = [training_command(options, step, data_of(out_dir, step.name) / "particles.star", out_dir)
                 for step in wanted]
        print("\n".join(lines), flush=True)
        return "\n".join(lines)
    for step in wanted:
        at_snr = replace(options, snr=SNRS[step.name])
        star = simulated(at_snr, maps, data_of(out_dir, step.name), crop_frac=CROP_FRAC[options.scale])
        if options.stop_after == "data":
            continue
        run_dir = trained(at_snr, step, star, out_dir)
        if options.stop_after == "all":
            experiment_tables.write_row(out_dir / step.name, {"configuration": step.name,
                                                              **measured(at_snr, run_dir, star, maps)})
    if options.stop_after == "data":
        return ""
    rows = experiment_tables.read_rows(out_dir, list(SNRS))
    draw(rows, out_dir)
    notes = [f"scale {options.scale}; {len(maps)} states: {', '.join(Path(name).stem for name in maps)}; "
             f"defocus {options.defocus_range_ang[0]:g} to {options.defocus_range_ang[1]:g} A; "
             f"CPU {experiment_tables.machine()}",
             "nmi: clusters found without labels; nmi_neighbours and ceiling_nmi are shown the labels; observer_nmi "
             "knows the maps"]
    return experiment_tables.write_table(out_dir, options.experiment, rows, notes)


def data_of(out_dir: Path, name: str) -> Path:
    """Folder of the simulated set of one SNR."""
    return out_dir / name / "data"


def measured(options: ReproduceOptions, run_dir: Path, star: Path, maps: list[str]) -> TableRow:
    """Row of one training: its clusters, its neighbours, the classifier and the observer on the same images."""
    folder, compute = run_dir.parent, options.compute
    embedding_dir = embedded(options, run_dir, star, folder)
    clusters_dir = folder / "clusters"
    if not finished(clusters_dir):
        from ..latent.cluster import run_cluster

        run_cluster(ClusterRun(embedding_dir=str(embedding_dir.absolute()), run_dir=str(run_dir.absolute()),
                               stability_repeats=0, compute=compute), clusters_dir)
    labels = run_evaluate(EvaluateRun(clusters_dir=str(clusters_dir), truth_csv=str(truth_of(star)), compute=compute),
                          folder / "evaluation").labels
    assert labels is not None  # a truth was given
    latents, truth = read_latents(embedding_dir), read_truth(truth_of(star))
    neighbours = learning_curve.neighbours_nmi(latents.z, truth.label[rows_of(truth.particle_id, latents.particle_id,
                                                                              star)])
    ceiling = run_ceiling(replace(CEILING[options.scale], particles=str(star), truth_csv=str(truth_of(star)),
                                  run_dir=str(run_dir), compute=compute), folder / "ceiling")
    data = settings(options, Configuration("", "train3d", "fast", small=SMALL), star).data
    observer = run_observer(replace(OBSERVED[options.scale], run_dir=str(run_dir), truth_csv=str(truth_of(star)),
                                    maps=tuple(maps), shells=min(11.0, data.box_px / 2 - 1), compute=compute),
                            folder / "observer")
    images = open_run_cache(data, run_dir).images
    return {"snr_estimated": estimated_snr(images, data), "clusters": labels.clusters, "nmi": labels.nmi,
            "ami": labels.ami, "nmi_neighbours": neighbours, "ceiling_nmi": ceiling.nmi,
            "observer_nmi": observer.refined.nmi, **training_columns(run_dir)}


def draw(rows: list[TableRow], out_dir: Path) -> None:
    """NMI against SNR, of the clusters and of those who are told more."""
    if not rows:
        return
    figure = drawing.new_figure(6.4, 4.2)
    ax: Any = figure.subplots()
    for colour, (column, line, label) in zip(learning_curve.COLOURS, CURVES, strict=False):
        ax.plot([row["snr"] for row in rows], [row[column] for row in rows], line, color=colour, marker="o",
                label=label)
    ax.set(xscale="log", xlabel="SNR of the whole image", ylabel="NMI with the three states", ylim=(-0.02, 1.02))
    ax.legend(fontsize=8)
    drawing.save_png(figure, out_dir / experiment_tables.FIGURE_PNG)
