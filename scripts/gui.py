"""Drive the real Scipion GUI by mouse on a display of its own, keep pictures, and fail when something does not come up.

``python scripts/gui.py --out PICTURES`` makes a small project with the stand-in engine of the tests (about two
minutes); ``--project vaegan_demo`` shows the project of ``make demo`` instead. What is done is in ``gui_session.py``.
Needs Xvfb, openbox, xdotool, ImageMagick and Qt's X libraries. Standard library only.
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = {"Xvfb": "xvfb", "openbox": "openbox", "xdotool": "xdotool", "import": "imagemagick"}
# what Scipion's metadata viewer (Qt) loads
LIBRARIES = {"xcb-xinerama": "libxcb-xinerama0", "xcb-icccm": "libxcb-icccm4", "xcb-image": "libxcb-image0",
             "xcb-keysyms": "libxcb-keysyms1", "xcb-render-util": "libxcb-render-util0",
             "xkbcommon-x11": "libxkbcommon-x11-0", "xcb-shape": "libxcb-shape0"}
SCREEN = "1500x1000x24"
TIME_LIMIT_S = 540 * float(os.environ.get("VAEGAN_GUI_PATIENCE", 1))


def missing_programs() -> list[str]:
    """Debian packages of the programs and libraries that are not there."""
    return sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None}
                  | {package for library, package in LIBRARIES.items() if find_library(library) is None})


def start_display() -> tuple[subprocess.Popen, str]:
    """A virtual display with a free number."""
    server = subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", SCREEN, "-nolisten", "tcp"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    number = server.stdout.readline().strip()
    if not number:
        sys.exit("gui: Xvfb did not start.")
    return server, f":{number}"


def main() -> int:
    """Run the session; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--project", default="", help="a project that holds finished runs; empty = make a small one")
    parser.add_argument("--scale", type=float, default=0.7, help="size of the pictures / the screen's")
    args = parser.parse_args()
    lacking = missing_programs()
    if lacking:
        sys.exit(f"gui: {', '.join(lacking)} missing. apt-get install {' '.join(lacking)}")
    args.out.mkdir(parents=True, exist_ok=True)
    server, display = start_display()
    environment = {**os.environ, "DISPLAY": display, "BROWSER": "true", "GDK_BACKEND": "x11", "QT_QPA_PLATFORM": "xcb"}
    environment.pop("MPLBACKEND", None)
    manager = subprocess.Popen(["openbox"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = [str(ROOT / "bin" / "scipion3"), "python", str(ROOT / "scripts" / "gui_session.py"),
               str(args.out.resolve()), str(args.scale), *([args.project] if args.project else [])]
    try:
        return subprocess.run(command, env=environment, timeout=TIME_LIMIT_S).returncode
    except subprocess.TimeoutExpired:
        print(f"gui: not done after {TIME_LIMIT_S} s", file=sys.stderr)
        return 124
    finally:
        for process in (manager, server):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
