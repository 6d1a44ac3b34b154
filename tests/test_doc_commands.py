"""Every command that the documentation names, run as it stands there in a copy of the checkout."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pexpect
import pytest

from tests.conftest import ROOT
from tests.live import running
from tests.postgres import dump
from tests.test_building import Newcomer, blocks
from tests.test_docs import PAGES as ALL_PAGES

# Each command has tests of its own, which also run through a pooler.
pytestmark = [pytest.mark.any_version, pytest.mark.direct]

# Followed from the first step to the last by tests of their own; made; a list of changes.
ELSEWHERE = {"building.md", "syncing.md", "reference.md", "CHANGELOG.md"}
LINE = re.compile(r"^(?:\.venv/bin/)?(?:piccolo|groundwork) .+$", re.MULTILINE)
INLINE = re.compile(r"`((?:\.venv/bin/)?(?:piccolo|groundwork|python -m home) [^`]+)`")
PASSWORD = "a long passphrase of theirs"
ANSWERS = {r"(?i)password[^\n]*: $": PASSWORD, r"\[y/N\] $": "y", r"In \[\d+\]: $": "exit"}
# What has to be refused in the state that the test is in, and with which words.
REFUSED = {
    "piccolo migrations backwards home": "builds on",
    "piccolo sync_history cancel 1": "is over",
    "piccolo user ...": "piccolo home",
    "piccolo audit erase --person=42": "no person 42",
    'piccolo audit erase --person=42 --yes --reason="Request 17"': "no person 42",
}
# After these there is nothing left that others are about.
LAST = {"piccolo migrations backwards sync_history --auto_agree", "piccolo home reset"}
UNTIL_STOPPED = "piccolo sync_history work"


def commands_of(*pages: Path) -> list[str]:
    """Each command once, in the order of the pages, without the comment behind it."""
    found: list[str] = []
    for page in pages:
        code = "".join(text for language, text in blocks(page) if language == "sh")
        found += [*LINE.findall(code), *INLINE.findall(page.read_text(encoding="utf-8"))]
    once: dict[str, str] = {}
    for command in (re.sub(r"\s+#.*", "", line) for line in found):
        once.setdefault(command.removeprefix(".venv/bin/"), command)
    return sorted(once.values(), key=lambda command: command in LAST)


PAGES = [page for page in ALL_PAGES if page.name not in ELSEWHERE]


@pytest.fixture
def newcomer(url: str, tmp_path: Path) -> Newcomer:
    """Somebody with an installation that has people, an app, a source and a run."""
    newcomer = Newcomer(tmp_path, url)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "people.csv").write_text("email\nnew@example.com\n", encoding="utf-8")
    newcomer.env |= {"TERM": "dumb", "DIRECTORY_URL": str(tmp_path / "people.csv")}
    newcomer.env |= {"AUDIT_KEEP": "13 months", "AUDIT_ARCHIVE": str(tmp_path / "archive")}
    for language, text in list(blocks(ROOT / "docs" / "syncing.md"))[:2]:
        newcomer.follow(language, text)
    eve = "piccolo home create_user --email=eve@example.com --password-stdin"
    newcomer.run("sh", "-ec", f"echo '{PASSWORD}' | {eve}")
    dump(url, tmp_path / "backup.dump", "--format=custom")
    return newcomer


def test_every_command_of_the_pages(newcomer: Newcomer) -> None:
    """Each is run once, however many pages name it."""
    said = {each: problem for each in commands_of(*PAGES) if (problem := run(newcomer, each))}
    assert said == {}


def run(newcomer: Newcomer, command: str) -> str:
    """Type a command at a terminal, answer what it asks; return what is wrong with how it ended."""
    terminal = pexpect.spawn(
        "sh",
        ["-ec", f"exec {command}"],
        cwd=newcomer.folder,
        env=newcomer.env,
        encoding="utf-8",
        timeout=60,
    )
    terminal.logfile_read = said = io.StringIO()
    if command == UNTIL_STOPPED:
        terminal.expect("run_id")
        terminal.sendintr()
    asks = [pexpect.EOF, *ANSWERS]
    while (question := terminal.expect(asks)) > 0:
        terminal.sendline(ANSWERS[asks[question]])
    terminal.close()
    code = terminal.exitstatus
    if (words := REFUSED.get(command)) is not None:
        return "" if code and words in said.getvalue() else f"not refused: {said.getvalue()}"
    return f"exit {code}: {said.getvalue()}" if code != 0 else ""


def test_a_program_comes_with_a_token(newcomer: Newcomer) -> None:
    """The commands of the page, one after the other, at a server that takes tokens."""
    [block] = [text for _, text in blocks(ROOT / "docs" / "api.md") if "create_token" in text]
    with running(newcomer.env["DATABASE_URL"], newcomer.folder, API_TOKENS="true") as live:
        newcomer.run("sh", "-ec", block.replace("localhost:8000", live.address))
    assert '"email":"deploy@example.com"' in newcomer.said[-1]


def test_there_are_commands_on_these_pages() -> None:
    """Else the test above would prove nothing."""
    assert {page.name for page in PAGES} >= {"commands.md", "operating.md", "README.md"}
    assert "piccolo audit verify" in commands_of(ROOT / "docs" / "operating.md")
