"""The stand-in engine's command fullres: the poses of the states, turned by a degree; half maps that agree to 8 A.

Imported by `fake_engine`, beside it.
"""
from dataclasses import replace
from pathlib import Path

from vaegan_engine.contract import result_files
from vaegan_engine.contract.fullres_records import FullresRound, FullresState, FullresSummary
from vaegan_engine.contract.record import read_records, write_record, write_records
from vaegan_engine.contract.records import ClusterRow

SUFFIXES = ("", "_half1", "_half2", "_sharpened", "_local_resolution", "_mask")


def fullres(run, out_dir, write_pictures, rate):
    """Results in ``out_dir``; ``write_pictures`` makes maps, ``rate`` is the particles' pixel size."""
    before = [row for row in result_files.read_csv(Path(run.states_dir) / result_files.PARTICLES_CSV)
              if int(row["label"]) >= 0]
    header = list(before[0])
    table = [[float(row[name]) + 1 if name == "rot_deg" else row[name] for name in header] for row in before]
    result_files.write_csv(out_dir / result_files.PARTICLES_CSV, header, table)
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, header[:3], [row[:3] for row in table])
    rows, states = [], []
    for row in read_records(ClusterRow, Path(run.states_dir) / result_files.CLUSTERS_JSON, "states"):
        files = [f"maps/cluster_{row.label:02d}{suffix}.mrc" for suffix in SUFFIXES]
        write_pictures(out_dir, files, True, rate)
        figures = replace(row.of_state, files=files[1:3], voxel_size_ang=rate, motion_files=[])
        rows.append(replace(row, file=files[0], state=figures))
        b_factor_ang2 = run.b_factor_ang2 or (-80.0 if row.label == 0 else None)
        states.append(FullresState(
            row.label, row.n_particles, row.n_particles // 2, 1, 20.0, 8.0 + row.label, True, 15.0, b_factor_ang2,
            "Guinier fit" if b_factor_ang2 else "not sharpened: too coarse", [7.0, 8.0, 9.0], 56.0, 1.0, 0.5,
            [FullresRound(20.0, 9.0, 1.0, 0.5)], files[0], files[1:3], files[3], files[4], files[5],
            f"state_{row.label + 1:02d}.star", f"state_{row.label + 1:02d}_relion.sh"))
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    result_files.write_csv(out_dir / result_files.FSC_CSV,
                           ["cluster", "resolution_ang", "spatial_frequency_per_ang", "fsc"],
                           [[row.label, "inf", k / 160, 1 - k / 16] for row in rows for k in range(17)])
    n_all = sum(state.n_particles for state in states)
    write_record(out_dir / result_files.FULLRES_JSON, FullresSummary(32, rate, n_all, 1.0, 100.0, states))
