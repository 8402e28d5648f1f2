"""The stand-in engine's command evaluate. Imported by `fake_engine`, beside it."""
import struct
from pathlib import Path

from vaegan_engine.contract import result_files
from vaegan_engine.contract.answer import doubt_about
from vaegan_engine.contract.map_records import MapComparison
from vaegan_engine.contract.record import read_record, read_records, write_record
from vaegan_engine.contract.records import ClusterRow, Evaluation, LabelScores, MapEvaluation, StatesSummary


def evaluate(run, out_dir, write_pictures):
    """Scores that tell what was compared: NMI = labelled share of the particles; one map per reference.

    ``write_pictures`` makes maps.
    """
    label_of, known_as = group_of(run), labels_of(run)
    known = {i for i in label_of if i in known_as}
    scores, maps = None, []
    if run.truth_csv:
        n, states = len(label_of), sorted(set(known_as.values()))
        share, labels = len(known) / n, sorted(set(label_of.values()), key=lambda label: (label < 0, label))
        scores = LabelScores(
            clusters=sum(label >= 0 for label in labels), n_particles=len(known), unassigned_frac=0.0, coverage=1.0,
            nmi=share, ami=share, ari=share,
            unlabelled=n - len(known), states=states,
            contingency={label: [sum(label_of[i] == label and known_as[i] == state for i in known)
                                 for state in states] for label in labels})
    for label, path in enumerate(map(Path, run.maps)):
        header = struct.unpack_from("<10i6f", path.read_bytes(), 0)
        voxel_ang = header[10] / header[0]
        file, reference_file = (f"maps/cluster_{label:02d}_{what}.mrc" for what in ("aligned", "reference"))
        write_pictures(out_dir, [file, reference_file], True, voxel_ang)
        compared = MapComparison([1 - k / 8 for k in range(9)], 3 * voxel_ang, 2 / 3, True, 4 * voxel_ang, 0.5, True)
        maps.append(MapEvaluation(
            voxel_size_ang=voxel_ang, reference=path.name, correlation=0.5, mirrored=label == 1,
            best_correlated=path.name, correlations={path.name: 0.5}, label=label, n_particles=5, aligned_file=file,
            compared=compared, reference_file=reference_file))
    rows = read_records(ClusterRow, Path(run.clusters_dir) / result_files.CLUSTERS_JSON, "cluster")
    groups = "states" if rows[0].state else "classes" if rows[0].in_plane else "clusters"
    of_states = Path(run.clusters_dir) / result_files.STATES_JSON
    doubt = doubt_about(read_record(StatesSummary, of_states, "states")) if of_states.exists() else ""
    write_record(out_dir / result_files.EVALUATION_JSON, Evaluation(maps, scores, groups=groups, doubt=doubt))


def group_of(run):
    """Particle id -> label of the clustering behind a request."""
    path = Path(run.clusters_dir) / result_files.CLUSTERS_CSV
    return {int(row["particle_id"]): int(row["label"]) for row in result_files.read_csv(path)}


def labels_of(run):
    """Particle id -> label of the table of a request."""
    return {int(row["id"]): row["label"] for row in result_files.read_csv(run.truth_csv)} if run.truth_csv else {}
