"""The stand-in engine's command consensus: groups keep their numbers, those of the first run are taken.

Imported by `fake_engine`, beside it.
"""
from itertools import combinations
from pathlib import Path

from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.analysis_records import ComparedRun, ConsensusGroup, ConsensusSummary, RunPair
from vaegan_engine.contract.record import write_record


def consensus(run, out_dir):
    """A particle is where most of the runs put it, by the very number of the group."""
    tables = [{int(row["particle_id"]): int(row["label"]) for row in result_files.read_csv(
        Path(folder) / result_files.CLUSTERS_CSV)} for folder in run.clusters]
    ids = sorted(set.intersection(*map(set, tables)), reverse=True)
    share = {i: sum(table[i] == tables[0][i] for table in tables) / len(tables) for i in ids}
    label = {i: tables[0][i] if share[i] > 0.5 else -1 for i in ids}
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                           [[i, label[i], share[i]] for i in ids])
    groups = [ConsensusGroup(k, sum(label[i] == k for i in ids), 0.9, len(tables), [0.9] * len(tables))
              for k in range(max(label.values()) + 1)]
    pairs = [RunPair([a, b], len(ids), 0.5, 0.4) for a, b in combinations(range(len(tables)), 2)]
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    write_record(out_dir / result_files.CONSENSUS_JSON, ConsensusSummary(
        f"{len(groups)} groups, stable", run.clusters[0], groups, 0.1,
        [ComparedRun(folder, 3, 0.5) for folder in run.clusters], pairs,
        sum(share[i] == 1 for i in ids) / len(ids)))
