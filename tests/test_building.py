"""The worked example of docs/building.md, step by step, in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.any_version

BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PARTS = ("audit", "home", "sync_history", "main.py", "piccolo_conf.py")


def blocks(page: str = "building.md") -> Iterator[tuple[str, str]]:
    """Language and text of each code block, in order."""
    for match in BLOCKS.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")):
        yield match.group(1), match.group(2)


class Newcomer:
    """Does what the page says, in a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        self.folder = folder
        programs = Path(sys.executable).parent
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "DATABASE_URL": url, "PATH": path, "PYTHONWARNINGS": "ignore"}
        self.said: list[str] = []

    def follow(self, language: str, text: str) -> None:
        first, _, rest = text.partition("\n")
        if language == "sh":
            self.run("sh", "-ec", text)
        elif language == "diff":
            self.edit(text)
        elif first == "# the new migration":
            self.complete_migration(rest)
        else:
            file = self.folder / first.removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(rest, encoding="utf-8")
            if file.name == "lend.py":
                self.run(sys.executable, "lend.py")

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self.said.append(done.stdout)

    def edit(self, diff: str) -> None:
        lines = diff.splitlines()
        file = self.folder / lines[1].removeprefix("+++ b/")
        old, new = (
            "\n".join(line[1:] for line in lines[2:] if line.startswith(sign)) for sign in "-+"
        )
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{file.name} no longer holds what docs/building.md replaces"
        if file.name == "main.py":
            new += "\n"
            text = text.replace("import gc\n", "import gc\nfrom inventory.tables import Tool\n", 1)
        file.write_text(text.replace(old, new), encoding="utf-8")

    def complete_migration(self, lines: str) -> None:
        newest = max((self.folder / "inventory" / "piccolo_migrations").glob("inventory_*.py"))
        text = newest.read_text(encoding="utf-8")
        example = re.compile(r"    def run\(\):.*?manager\.add_raw\(run\)\n", re.DOTALL)
        assert example.search(text)
        newest.write_text(example.sub(lambda _: lines, text), encoding="utf-8")


async def test_the_worked_example(url: str, tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path, url)
    *forwards, back = list(blocks())
    for language, text in forwards:
        newcomer.follow(language, text)
    newcomer.run(sys.executable, "-c", "import main, piccolo_conf")
    assert "Ladder (lent)" in newcomer.said[-2]
    database = await asyncpg.connect(url)
    rows = await database.fetch("SELECT * FROM audit_logs WHERE resource = 'tools' ORDER BY id")
    assert [row["action"] for row in rows] == ["tools.insert", "tools.update", "tools.lent"]
    assert {row["actor"] for row in rows} == {"system:lending"}
    assert "1234" not in repr(rows)
    newcomer.follow(*back)
    assert await database.fetchval("SELECT to_regclass('tools')") is None
    await database.close()


def test_the_page_has_all_its_steps() -> None:
    languages = [language for language, _ in blocks()]
    assert languages.count("sh") == 5
    assert languages.count("diff") == 2
