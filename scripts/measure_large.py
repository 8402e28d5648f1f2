"""What a million particles cost: minutes and memory of preparing them, of one search of all of them, of their clusters.

``.venv/engine/bin/python scripts/measure_large.py --out DIR [--particles 1000000] [--embedded 200000] [--rows DIR]``.
Three states of the built-in phantom are simulated in a box of 64 px (16.4 GB for a million); ``prepare`` and ``states``
run on them, ``states`` until all images were searched once (stage ``first_states``), then it is asked to stop. So many
latent vectors, in three groups, go through ``cluster`` with its stability and null, on the networks of a small
training; so do ``--embedded`` of them. Memory is what a process holds and cannot give back (anonymous and shared, not
the pages of files), the most of what was seen twice a second. A part that has left its figures in ``DIR`` is not run
again.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "vaegan_scipion" / "engine"))

from vaegan_engine.contract import result_files  # noqa: E402
from vaegan_engine.evaluation.benchmark.result_rows import measured, write_row  # noqa: E402

BOX_PX, SNR, GROUPS = 64, 0.2, 3
SEARCHED = "first_states"  # of the log: all images have been searched
HELD = re.compile(r"^(?:RssAnon|RssShmem):\s+(\d+) kB$", re.MULTILINE)
LOOK_SECONDS = 0.5


def engine(words: list[object], done: Callable[[], bool] = lambda: False) -> tuple[float, float]:
    """Run a command of the engine until it ends, or until ``done()``, when it is asked to stop: minutes, GB held."""
    began, most_kb, asked = time.monotonic(), 0, False
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "vaegan_scipion" / "engine")}
    process = subprocess.Popen([sys.executable, "-m", "vaegan_engine", *map(str, words)], env=environment)
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        most_kb = max(most_kb, sum(map(int, HELD.findall(status))))
        if not asked and done():
            asked = True
            minutes = (time.monotonic() - began) / 60
            process.send_signal(signal.SIGTERM)
        time.sleep(LOOK_SECONDS)
    if process.returncode and not asked:
        sys.exit(f"{words[0]} ended with exit code {process.returncode}")
    return minutes if asked else (time.monotonic() - began) / 60, most_kb / 1e6


def once(out: Path, part: str, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The figures of a part, read back where they are there."""
    path = out / f"{part}.json"
    if not path.exists():
        path.write_text(json.dumps(work()))
    figures = json.loads(path.read_text())
    print(f"{part}: {', '.join(f'{name} {value:.3g}' for name, value in figures.items())}", flush=True)
    return figures


def of_images(out: Path, n: int, threads: int, memory_gb: float) -> dict[str, float]:
    """Prepare n images, and search all of them once."""
    data, prepared, states = out / "data", out / "prepared", out / "states"
    images = ["--particles", data / "particles.star", "--box-px", BOX_PX]

    def simulated() -> dict[str, float]:
        minutes, _ = engine(["simulate", "--phantom", GROUPS, "--per-map", -(-n // GROUPS), "--box", BOX_PX,
                             "--snr", SNR, "--out", data])
        return {"simulate_minutes": minutes}

    def made_ready() -> dict[str, float]:
        minutes, held_gb = engine(["prepare", *images, "--out", prepared])
        return {"prepare_minutes": minutes, "prepare_memory_gb": held_gb}

    def searched() -> dict[str, float]:
        log = states / result_files.LOG_JSONL
        minutes, held_gb = engine(["states", *images, "--prepared", prepared, "--threads", threads, "--memory-gb",
                                   memory_gb, "--out", states], lambda: log.exists() and SEARCHED in log.read_text())
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        search = next(row["took_seconds"] / 60 for row in rows if row.get("step") == SEARCHED)
        return {"states_minutes_to_first_search": minutes, "search_minutes": search, "states_memory_gb": held_gb}

    once(out, "simulate", simulated)
    return once(out, "prepare", made_ready) | once(out, "states", searched)


def of_latents(out: Path, n: int, threads: int) -> dict[str, float]:
    """Cluster n latent vectors in three groups, with the networks of a small training."""
    small, run, embedding = out / "small", out / "small_run", out / "small_embedding"
    if not (embedding / result_files.LATENTS_NPZ).exists():
        engine(["simulate", "--phantom", GROUPS, "--per-map", 100, "--box", 32, "--out", small])
        engine(["train3d", "--particles", small / "particles.star", "--box-px", 32, "--out", run,
                "--set", "training.total_kimg=1", "--set", "training.encoder_kimg=1"])
        engine(["embed", "--run", run, "--out", embedding])
    with np.load(embedding / result_files.LATENTS_NPZ) as stored:
        z = stored["z"]
    rng, of_all = np.random.default_rng(0), out / f"embedding_{n}"
    group = np.arange(n) % GROUPS
    centres = 6.0 * z.std(0) * rng.normal(size=(GROUPS, z.shape[1])) / np.sqrt(z.shape[1])
    values = z.mean(0) + centres[group] + z.std(0) * rng.normal(size=(n, z.shape[1]))
    result_files.write_npz(of_all / result_files.LATENTS_NPZ, particle_id=np.arange(1, n + 1),
                           z=values.astype(np.float32), half_set=(np.arange(n) % 2 + 1).astype(np.uint8))

    def clustered() -> dict[str, float]:
        folder = out / f"clusters_{n}"
        minutes, held_gb = engine(["cluster", "--embedding", of_all, "--run", run, "--threads", threads,
                                   "--out", folder])
        rows = result_files.read_json(folder / result_files.CLUSTERS_JSON)
        found = sum(row["label"] >= 0 for row in rows)
        return {"clusters": found, "cluster_minutes": minutes, "cluster_memory_gb": held_gb}

    return once(out, f"cluster_{n}", clustered)


def main() -> None:
    """Measure, print, write a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=1_000_000)
    parser.add_argument("--embedded", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory-gb", type=float, default=6.0)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--beside", default="")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    few = of_latents(asked.out, asked.embedded, asked.threads)
    figures = {"images": asked.particles, "box_px": BOX_PX, "snr": SNR}
    figures |= of_images(asked.out, asked.particles, asked.threads, asked.memory_gb)
    figures |= of_latents(asked.out, asked.particles, asked.threads)
    figures |= {f"{name}_of_{asked.embedded}": value for name, value in few.items()}
    if asked.rows:
        command = f"scripts/measure_large.py --out DIR --particles {asked.particles} --memory-gb {asked.memory_gb:g}"
        write_row(measured("large", figures, command, 0, threads=asked.threads, beside=asked.beside), asked.rows)


if __name__ == "__main__":
    main()
