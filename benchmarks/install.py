"""The peers' packages, installed once into `.bench/` with their own package managers."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.tools import BENCH, PEERS, BenchmarkError, find


def node_peer(name: str, say: Callable[[str], None]) -> Path:
    """A copy of a peer's folder under `.bench/`, with its packages beside it."""
    source, folder = PEERS / name, BENCH / name
    npm = [find("npm"), "install", "--no-package-lock", "--no-audit", "--no-fund"]
    find("node")
    shutil.rmtree(folder / "migrations", ignore_errors=True)  # none that the source has no more
    shutil.copytree(source, folder, dirs_exist_ok=True)
    _once(source / "package.json", folder, [[*npm, "--prefix", str(folder)]], say)
    return folder


def django(say: Callable[[str], None]) -> Path:
    """The folder of programs of a virtual environment with Django."""
    requirements, folder = PEERS / "django" / "requirements.txt", BENCH / "django"
    programs = folder / "bin"
    steps = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(programs / "python"), "-m", "pip", "install", "-q", "-r", str(requirements)],
    ]
    _once(requirements, folder, steps, say)
    return programs


def _once(wanted: Path, folder: Path, steps: list[list[str]], say: Callable[[str], None]) -> None:
    """Run the steps unless they ran for this very file of wanted packages."""
    stamp, digest = folder / ".installed", hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    say(f"installing the packages of {wanted.parent.name} into .bench/{folder.name} (once)")
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"{' '.join(step)} failed:\n{done.stderr.strip()}")
    stamp.write_text(digest)
