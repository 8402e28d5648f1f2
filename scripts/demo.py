"""``make demo``: from nothing to states, their landscape and maps in a Scipion project, everything computed here.

Simulates particles of the built-in phantom, lets Scipion import them, find their states and poses, train at these
poses, cluster the embedding, traverse the clusters and export a state, then compares with the truth and draws one
picture. Run by the engine's Python.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VAEGAN = ROOT / "bin" / "vaegan"
SCIPION = ROOT / "bin" / "scipion3"
PROJECT = "vaegan_demo"


def run(command: list[Any], **environment: str) -> None:
    """Run a command, shown first; a stop when it fails."""
    words = [str(word) for word in command]
    print("+", " ".join(word.replace(f"{ROOT}{os.sep}", "") for word in words), flush=True)
    code = subprocess.run(words, env={**os.environ, **environment}).returncode
    if code != 0:
        sys.exit(f"demo: the command above failed with exit code {code}.")


def simulate(folder: Path, args: argparse.Namespace) -> None:
    """Particles of the phantom's states, poses and states unknown to what follows."""
    run([VAEGAN, "simulate", "--phantom", args.states, "--per-map", args.per_map, "--box", args.box,
         "--snr", args.snr, "--seed", args.seed, "--out", folder])


def build_project(folder: Path, data: Path, args: argparse.Namespace) -> dict[str, str]:
    """Run the Scipion protocols; returns the project's and the runs' folders."""
    simulation = json.loads((data / "simulation.json").read_text())
    request, answer = folder / "project_request.json", folder / "project.json"
    train: dict[str, Any] = {"seed": args.seed, "numberOfThreads": args.threads}
    if args.kimg:
        train["totalKimg"] = args.kimg
    request.write_text(json.dumps({
        "project": PROJECT, "star": str(data / "particles.star"), "pixel_size_ang": simulation["pixel_size_ang"],
        "answer": str(answer), "train": train,
        "cluster": {"seed": args.seed, "numberOfThreads": args.threads},
        "traverse": {"seed": args.seed, "numberOfThreads": args.threads},
        "states": {"boxPx": args.box, "seed": args.seed, "numberOfThreads": args.threads,
                   "maxShiftFrac": 0.05},  # as far as simulate shifts
    }, indent=2) + "\n")
    run([SCIPION, "python", ROOT / "scripts" / "demo_project.py", request], VAEGAN_DEMO_GPU=str(int(args.gpu)))
    found: dict[str, str] = json.loads(answer.read_text())
    return found


def resolution(row: dict[str, Any]) -> str:
    """A map's resolution against the truth, in A and of Nyquist."""
    return (f"{row['resolution_0.5_ang']:.1f} A at FSC 0.5 ({row['nyquist_frac_0.5']:.2f} of Nyquist), "
            f"{row['resolution_0.143_ang']:.1f} A at 0.143")


def print_evaluation(evaluation: dict[str, Any], kind: str) -> None:
    """Agreement of clusters or states (``kind``, of one) with the true states, and each map's resolution."""
    print(f"{kind}s {evaluation['clusters']} (true states {len(evaluation['states'])})")
    print(f"NMI {evaluation['nmi']:.3f}  AMI {evaluation['ami']:.3f}  ARI {evaluation['ari']:.3f}")
    for row in evaluation["maps"]:
        print(f"map of {kind} {row['label'] + 1} ({row['n_particles']} particles) against {row['reference']}: "
              f"{resolution(row)}")


def hand(evaluation: dict[str, Any]) -> str:
    """Whether all maps are of one hand: each is compared with its reference and with the mirror image of it."""
    mirrored = {row["mirrored"] for row in evaluation["maps"]}
    return "all maps of one hand" if len(mirrored) < 2 else "maps of both hands"


def print_results(clusters: dict[str, Any], states: dict[str, Any], folders: dict[str, str],
                  reports: tuple[Path, ...], seconds: float) -> None:
    """What was found, from the files that hold it."""
    print("\n================ demo ================")
    for title, evaluation, kind in (("clusters of the embedding", clusters, "cluster"), ("states", states, "state")):
        print(f"-- {title}")
        print_evaluation(evaluation, kind)
        print(hand(evaluation))
    print(f"took {seconds / 60:.1f} min")
    print(f"Scipion project {folders['project']}")
    print(f"open it with    bin/scipion3 project {PROJECT}")
    print(f"states maps     {folders['states']}/maps.png")
    print(f"star for RELION {folders['star']}")
    print(f"report          {', '.join(map(str, reports))}")


def main() -> None:
    """The whole demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "demo", help="made anew")
    parser.add_argument("--states", type=int, default=3)
    parser.add_argument("--per-map", type=int, default=500)
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--snr", type=float, default=2.0)
    parser.add_argument("--kimg", type=float, default=60.0, help="training length; 0 = the preset's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="train on a CUDA device")
    args = parser.parse_args()
    started = time.monotonic()

    out = args.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    data, evaluation_dir, picture, page = (out / name for name in (
        "data", "evaluation", "demo_report.png", "demo_report.html"))
    simulate(data, args)
    folders = build_project(out, data, args)
    truth = data / "truth.csv"
    run([VAEGAN, "evaluate", "--clusters", folders["clusters"], "--truth", truth, "--out", evaluation_dir])
    states_dir = out / "evaluation_states"
    run([VAEGAN, "evaluate", "--clusters", folders["states"], "--truth", truth, "--out", states_dir])
    run([VAEGAN, "report", "--run", folders["run"], "--clusters", folders["clusters"],
         "--traverse", folders["traverse"], "--evaluation", evaluation_dir, "--truth", truth, "--out", picture])
    run([VAEGAN, "report", "--run", folders["run"], "--clusters", folders["clusters"],
         "--traverse", folders["traverse"], "--states", folders["states"],
         "--evaluation", evaluation_dir, "--title", "Demo: particles of the built-in phantom", "--out", page])
    print_results(json.loads((evaluation_dir / "evaluation.json").read_text()),
                  json.loads((states_dir / "evaluation.json").read_text()), folders, (picture, page),
                  time.monotonic() - started)


if __name__ == "__main__":
    main()
