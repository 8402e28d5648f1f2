"""Run two checkouts of the engine and compare every array and table that they write, bit by bit.

    python scripts/same_bits.py BASE HEAD [--part states] [--renamed NAMES.json] [--keep DIR]

BASE and HEAD are folders of checkouts. Each runs ``RECIPE`` (and every preset that its own ``presets`` command
lists) on the CPU with one thread, by its command line alone, in the Python that runs this script: so checkouts
whose modules lie elsewhere can be compared. A checkout takes about three minutes of one core. Exit code 0: all is
equal; 1: something differs, or a step failed; 2: wrong usage. ``--part states`` runs ``STATES_RECIPE`` alone, for a
change inside of ``refine``: about a minute.

``file_digests.py`` says what is compared in a file and what is left out (wall times, rates, dates, folders). What the
commands print is not compared (it is kept in ``printed/`` for reading), but for the words of ``presets``.

``--renamed`` names a JSON object {old: new}. Before BASE is compared, an old name becomes the new one: a whole
relative path of a file or one folder or file name in it, a whole dotted key or one part of it, a column, an array,
and a text that is exactly the old name (such as a file named in a table).
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from file_digests import Words, contents_of

ENGINE = Path("vaegan_scipion") / "engine"
RUN_COMMANDS = Path(__file__).resolve().with_name("run_commands.py")
DONE_JSON, PRESETS, PRINTED = "done.json", "listed", "printed"
ROWS_PER_FILE = 12  # entries shown of a file that differs
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

SEEDED = "--device cpu --threads 1 --seed 1"
STEPS = "--set training.tick_kimg=0.032 --set training.checkpoint_kimg=0.064"
# {seeded} and {steps} stand for the lines above. A checkpoint, its continuation and the encoder's stage; clusters by
# density (with a verdict) and by k-means (three, that the rest has something to work on); refinements that end with
# three states and with one that moves; 3D and 2D.
RECIPE = """
simulate --phantom 3 --per-map 200 --box 32 --snr 5 --contrast-spread 0.2 --device cpu --seed 1 --out particles
train3d --particles particles/particles.star --box-px 16 {seeded} {steps} --set training.total_kimg=0.32 \
 --set training.encoder_kimg=0 --out train
train3d --resume --particles particles/particles.star --box-px 16 {seeded} {steps} --set training.total_kimg=0.64 \
 --set training.encoder_kimg=0.32 --out train
embed --run train {seeded} --out embed
cluster --embedding embed --run train --stability-repeats 1 {seeded} --out density
cluster --embedding embed --run train --method kmeans --stability-repeats 0 {seeded} --out clusters
traverse --clusters clusters --run train --n-points 2 {seeded} --out traverse
halves --clusters clusters --run train --total-kimg 0.064 {seeded} --out halves
states --run train --clusters clusters --n-starts 1 --n-maps 3 --start-steps 8 --search-steps 5 {seeded} --out states
states --run train --clusters clusters --n-starts 1 --n-maps 2 --start-steps 3 --search-steps 2 {seeded} --out moving
evaluate --clusters clusters --truth particles/truth.csv --out evaluation
consensus --clusters clusters density states --out consensus
scf --particles states/particles.star --out scf
counterpart --run train --embedding embed --n-orientations 100 {seeded} --out counterpart
report --run train --clusters clusters --traverse traverse --halves halves --states states --evaluation evaluation \
 --out report.html
report --run train --clusters density --states moving --out moving.html
report --run train --clusters clusters --traverse traverse --halves halves --evaluation evaluation \
 --truth particles/truth.csv --out report.png
embed --run presets/train2d-fast {seeded} --out embed2d
traverse --clusters clusters --run presets/train2d-fast --n-points 2 {seeded} --out traverse2d
"""
# Refinements without a training: from a random map to three states and junk; and at the poses that the first one found.
STATES_RECIPE = """
simulate --phantom 3 --per-map 150 --box 32 --snr 5 --contrast-spread 0.2 --device cpu --seed 1 --out particles
states --particles particles/particles.star --box-px 16 --n-starts 1 --n-maps 2 --start-steps 8 --search-steps 5 \
 {seeded} --out states
states --particles states/particles.star --box-px 16 --input-poses --search-steps 2 {seeded} --out posed
"""
PARTS = ("all", "states")
BEFORE_STATES = (("states --run", "refine --run"), ("--states ", "--refine "))  # the command's name before
# What checkouts before contract 2 called them: their --n-starts are the maps of a start.
BEFORE_2 = (("--n-starts", "--n-tries"), ("--n-maps", "--n-starts"))
# Four steps of each preset; those of the thesis and with poses train their encoder along, the others after it.
PRESET = ("{command} --preset {preset} --particles particles/particles.star --box-px 32 {seeded} {steps} "
          "--set training.batch_size=16 --set training.total_kimg=0.064 {encoder} {poses} "
          "--out presets/{command}-{preset}")
ENCODER_STAGE = "--set training.encoder_kimg=0.064"
WITH_ITS_ENCODER = "thesis"
WITH_POSES = "posed"  # those of states

Contents = dict[str, dict[str, str]]  # file -> entry -> digest


class StepFailed(Exception):
    """A command of a checkout did not end with exit code 0."""


# --------------------------------------------- running a checkout ---------------------------------------------
def preset_lines(listed: str) -> list[str]:
    """Command lines of the presets in the text that ``presets`` prints (name, command, purpose)."""
    lines = []
    for row in listed.splitlines():
        preset, command = row.split()[:2]
        poses = "--poses states" if preset.startswith(WITH_POSES) else ""
        encoder = "" if poses or preset.startswith(WITH_ITS_ENCODER) else ENCODER_STAGE
        lines.append(PRESET.format(command=command, preset=preset, encoder=encoder, poses=poses, seeded=SEEDED,
                                   steps=STEPS))
    return lines


def recipe_lines(listed: str, part: str) -> list[str]:
    """All command lines of a part. Of ``all``: data, the presets, what follows from a training; presets with poses."""
    if part == "states":
        return STATES_RECIPE.format(seeded=SEEDED).strip().splitlines()
    simulate, *others = RECIPE.format(seeded=SEEDED, steps=STEPS).strip().splitlines()
    presets = preset_lines(listed)
    with_poses = [line for line in presets if "--poses" in line]
    return [simulate, *(line for line in presets if line not in with_poses), *others, *with_poses]


def run_lines(checkout: Path, out: Path, lines: list[str], printed: str) -> None:
    """Command lines of a checkout's engine in the folder ``out``, on one core. Raises StepFailed.

    On one core, because ``simulate`` and ``evaluate`` take no number of threads: they use the cores that are free.
    """
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(checkout / ENGINE), "PYTHONHASHSEED": "0",
                   "PYTHONNOUSERSITE": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(RUN_COMMANDS), str(out / printed)]
    done = subprocess.run(command, cwd=out, env=environment, input="\n".join(lines), text=True)
    if done.returncode != 0:
        raise StepFailed(f"{checkout}: the command above failed")


def stay_on_one_core() -> None:
    """This process and those that it starts use one of the cores they may use, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})


def spelt_for(checkout: Path, line: str) -> str:
    """A line of the recipe in the words of a checkout."""
    files = [checkout / ENGINE / "vaegan_engine" / name for name in ("contract.py", "contract/settings.py")]
    if any(path.exists() and "n_tries: int" in path.read_text() for path in files):
        for new, old in BEFORE_2:
            line = line.replace(new, old)
    if any(path.exists() and "class RefineRun" in path.read_text() for path in files):
        for new, old in BEFORE_STATES:
            line = line.replace(new, old)
    return line


def run_checkout(checkout: Path, out: Path, part: str) -> None:
    """Everything that is compared, into the empty folder ``out``. Raises StepFailed."""
    started = os.times()
    run_lines(checkout, out, ["presets"], PRESETS)
    listed = next((out / PRESETS).glob("*.txt")).read_text()
    run_lines(checkout, out, [spelt_for(checkout, line) for line in recipe_lines(listed, part)], PRINTED)
    ended = os.times()
    core_s = ended.children_user + ended.children_system - started.children_user - started.children_system
    print(f"  {checkout.name}: {core_s:.0f} s of one core", flush=True)


def commit_of(checkout: Path) -> str:
    """The commit of a checkout whose tree is clean; empty for another folder."""
    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    if git("rev-parse", "--show-prefix") != "" or git("status", "--porcelain") != "":
        return ""
    return git("rev-parse", "HEAD") or ""


def made_with(part: str) -> dict[str, str]:
    """All beside the commit that the outputs depend on: the recipe and what computes."""
    parts = (RUN_COMMANDS.read_text(), part, RECIPE, STATES_RECIPE, PRESET, ENCODER_STAGE, SEEDED, STEPS)
    return {"recipe": hashlib.sha256("\n".join(parts).encode()).hexdigest(),
            "python": sys.version, "torch": torch.__version__, "numpy": numpy.__version__,
            "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"}


def outputs_of(checkout: Path, keep: Path, role: str, part: str) -> Path:
    """The folder with the outputs of a checkout: kept ones of its commit, else made now. Raises StepFailed."""
    commit, made = commit_of(checkout), made_with(part)
    out = keep / (commit[:12] or f"{role.lower()}-with-changes")
    if commit and (out / DONE_JSON).exists() and json.loads((out / DONE_JSON).read_text()) == made:
        print(f"{role}: outputs of {commit[:12]} are there", flush=True)
        return out
    if out.exists():  # of a run that was stopped, of another recipe or of a changed tree
        shutil.rmtree(out)
    out.mkdir(parents=True)
    print(f"{role}: {checkout} ({commit[:12] or 'with changes'})", flush=True)
    run_checkout(checkout, out, part)
    (out / DONE_JSON).write_text(json.dumps(made))
    return out


# --------------------------------------------- comparison ---------------------------------------------
def contents_of_folder(out: Path, words: Words) -> Contents:
    """``contents_of`` every file below a folder of outputs, but for what the commands printed."""
    names = {path: path.relative_to(out).as_posix() for path in sorted(out.rglob("*")) if path.is_file()}
    return {words.name(name, "/"): contents_of(path, words) for path, name in names.items()
            if name != DONE_JSON and not name.startswith(f"{PRINTED}/")}


def whole(entries: dict[str, str] | None) -> str:
    """Digest of a file from those of its entries; empty for a file that is not there."""
    return "" if entries is None else hashlib.sha256(json.dumps(sorted(entries.items())).encode()).hexdigest()


def table_rows(base: Contents, head: Contents) -> list[tuple[str, str, str, str]]:
    """(verdict, digest in BASE, in HEAD, name) of every file, and of the entries of those that differ."""
    rows = []
    for name in sorted({*base, *head}):
        ours, theirs = base.get(name), head.get(name)
        rows.append(_row(whole(ours), whole(theirs), name))
        if ours is None or theirs is None or ours == theirs:
            continue
        differ = [entry for entry in sorted({*ours, *theirs}) if ours.get(entry) != theirs.get(entry)]
        rows += [_row(ours.get(entry, ""), theirs.get(entry, ""), f"    {entry or '(all)'}")
                 for entry in differ[:ROWS_PER_FILE]]
        if len(differ) > ROWS_PER_FILE:
            rows.append(("DIFFERS", "", "", f"    and {len(differ) - ROWS_PER_FILE} more entries"))
    return rows


def _row(ours: str, theirs: str, name: str) -> tuple[str, str, str, str]:
    return "equal" if ours == theirs else "DIFFERS", ours[:8] or "none", theirs[:8] or "none", name


def compare(base: Contents, head: Contents) -> int:
    """Print the table and its sum. Returns the exit code."""
    print(f"{'':8}{'BASE':10}{'HEAD':10}")
    for verdict, ours, theirs, name in table_rows(base, head):
        print(f"{verdict:8}{ours:10}{theirs:10}{name}")
    names = sorted({*base, *head})
    wrong = [name for name in names if base.get(name) != head.get(name)]
    print(f"{len(names) - len(wrong)} of {len(names)} files are equal "
          f"({sum(map(len, head.values()))} arrays, columns and values)"
          + (f"; {len(wrong)} differ: {', '.join(wrong)}" if wrong else ""))
    return 1 if wrong or not names else 0


# --------------------------------------------- command line ---------------------------------------------
def read_renamed(path: Path | None) -> dict[str, str]:
    """Old names and new ones. Raises ValueError or OSError."""
    if path is None:
        return {}
    values = json.loads(path.read_text())
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ValueError("it is not a JSON object of texts, old name to new name")
    return values


def compare_checkouts(checkouts: dict[str, Path], keep: dict[str, Path], renamed: dict[str, str], part: str) -> int:
    """Run BASE and HEAD, each with the folder of its role for the outputs, and compare. Returns the exit code.

    Raises StepFailed.
    """
    contents = []
    for role, checkout in checkouts.items():
        names = renamed if role == "BASE" else {}
        out = outputs_of(checkout, keep[role], role, part)
        contents.append(contents_of_folder(out, Words(names, (str(out), str(checkout)))))
    return compare(*contents)


def main(argv: list[str] | None = None) -> int:
    """Parse, run, compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, metavar="BASE", help="folder of the checkout to compare with")
    parser.add_argument("head", type=Path, metavar="HEAD", help="folder of the checkout that was changed")
    parser.add_argument("--part", choices=PARTS, default="all", help="what is run (default: all)")
    parser.add_argument("--renamed", type=Path, metavar="NAMES.json", help="old name to new name, of files and keys")
    parser.add_argument("--keep", type=Path, metavar="DIR",
                        help="keep the outputs here, and use those of a commit that were made before")
    args = parser.parse_args(argv)
    for checkout in (args.base, args.head):
        if not (checkout / ENGINE / "vaegan_engine" / "__main__.py").is_file():
            parser.error(f"{checkout} is no checkout: there is no {ENGINE}/vaegan_engine in it.")
    try:
        renamed = read_renamed(args.renamed)
    except (OSError, ValueError) as error:
        parser.error(f"--renamed {args.renamed}: {error}")
    stay_on_one_core()
    with tempfile.TemporaryDirectory() as scratch:  # without --keep both are run, whatever their commits
        keep = {role: (args.keep or Path(scratch) / role).resolve() for role in ("BASE", "HEAD")}
        try:
            checkouts = {"BASE": args.base.resolve(), "HEAD": args.head.resolve()}
            return compare_checkouts(checkouts, keep, renamed, args.part)
        except StepFailed as error:
            print(error, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
