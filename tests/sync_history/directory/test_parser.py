"""Files as people and programs write them: which are read, and what is said of the others."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from pathlib import Path

import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from sync_history.directory import download
from sync_history.directory.parser import Entry, read_people
from sync_history.directory.tables import DirectoryChange
from sync_history.sources import SyncFailed
from tests.sync_history.directory.directories import (
    ADA,
    Report,
    run_directory,
    set_directory,
    write_json,
)

pytestmark = pytest.mark.any_version

HEADER = "email,display_name,organization,clerk_id,is_disabled\n"
ROW = "ada@example.com,Ada,Engines,c1,\n"
NDJSON = json.dumps(ADA) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "people"


def read(file: Path, content: str | bytes) -> tuple[str, list[Entry]]:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    unit, lines = read_people(file)
    return unit, list(lines)


@pytest.mark.parametrize(
    ("content", "unit", "number"),
    [
        (HEADER + ROW, "line", 2),
        (HEADER + ROW.rstrip(), "line", 2),
        (("\ufeff" + HEADER + ROW).replace("\n", "\r\n"), "line", 2),
        ((HEADER + ROW).replace(",", ";"), "line", 2),
        ((HEADER + "\n" + ROW).replace(",", "\t"), "line", 3),
        ("Organization, EMAIL ,shoe_size,clerk_id,display_name\nEngines,ada@example.com,38,c1,Ada",
         "line", 2),
        (HEADER + '"ada@example.com","Ada",Engines,c1,no\n', "line", 2),
        (json.dumps([{**ADA, "clerk_id": "c1", "shoe_size": 38}]), "item", 1),
        ("\n" + json.dumps([{**ADA, "clerk_id": "c1", "is_disabled": False}], indent=2), "item", 1),
        (json.dumps({**ADA, "clerk_id": "c1"}), "line", 1),
        ("\ufeff\n" + json.dumps({**ADA, "clerk_id": "c1"}) + "\n\n", "line", 2),
    ],
)  # fmt: skip
def test_the_usual_ways_to_write_it(file: Path, content: str, unit: str, number: int) -> None:
    line = Entry(number, "ada@example.com", "Ada", "Engines", "c1")
    assert read(file, content) == (unit, [line])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",Ada,,,", "has no e-mail address"),
        ("ada.example.com,Ada,,,", "'ada.example.com' is no e-mail address"),
        ("a da@example.com,Ada,,,", "'a da@example.com' is no e-mail address"),
        ("a@b@example.com,Ada,,,", "'a@b@example.com' is no e-mail address"),
        ("ada\x1b[31m@example.com,Ada,,,", r"'ada\x1b[31m@example.com' is no e-mail address"),
        ("a" * 250 + "@b.com,Ada,,,", "'" + "a" * 60 + "' is no e-mail address"),
        ("ada@example.com,Ada", "has 2 fields where the header has 5"),
        ("ada@example.com,Ada,Engines, Ltd,c1,", "has 6 fields where the header has 5"),
        ('ada@example.com,"Ada" L.,,,', "is not proper CSV: look at its quotation marks"),
        ('ada@example.com,"Ada\nada2@example.com,Ada",,,', "goes on to line 3"),
    ],
)
def test_a_line_of_which_nobody_knows_whom_it_is_about(file: Path, row: str, problem: str) -> None:
    _, [broken, good] = read(file, HEADER + row + "\n" + ROW)
    assert (broken.number, broken.email) == (2, None)
    assert (broken.problem or "").startswith(problem)
    assert (good.email, good.problem) == ("ada@example.com", None)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("ada@example.com," + "x" * 256 + ",,,", "display_name is longer than 255 characters"),
        ("ada@example.com,A\x1b[31mda,,,", "display_name holds control characters"),
        ("ada@example.com,,\u202eadA,,", "organization holds control characters"),
        ("ada@example.com,,,,perhaps", "is_disabled is neither true nor false"),
    ],
)
def test_a_broken_line_that_still_shows_whom_it_is_about(
    file: Path, row: str, problem: str
) -> None:
    _, [line, _] = read(file, HEADER + row + "\n" + ROW.replace("ada", "bea"))
    assert line == Entry(2, "ada@example.com", problem=problem)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("17", "is no object with an email"),
        ("null", "is no object with an email"),
        ("[" * 100_000, "is not JSON"),
        ('{"email": 17}', "email is not text"),
        ('{"email": "ada@example.com", "display_name": {}}', "display_name is not text"),
        ('{"email": "ada@example.com", "display_name": "\\u0000"}', "display_name holds control"),
        ('{"email": "ada@example.com", "display_name": "\\ud800"}', "display_name holds control"),
        ('{"email": "ada@example.com", "is_disabled": 2}', "is_disabled is neither"),
        ('{"email": "\\ud800@example.com"}', r"'\ud800@example.com' is no e-mail address"),
        ('{"email": "ada@example.com", "n": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"email": "ada@example.com" "n": 1}', "is not JSON"),
    ],
)
def test_odd_json_between_good_lines(file: Path, value: str, problem: str) -> None:
    unit, [first, *odd, last] = read(file, NDJSON + value + "\n" + NDJSON)
    assert (unit, first.problem, last.problem, last.number) == ("line", None, None, 3)
    assert [line.number for line in odd] == [2]
    assert (odd[0].problem or "").startswith(problem)


def test_two_objects_on_a_line_are_told_apart_by_refusing_the_second(file: Path) -> None:
    _, lines = read(file, NDJSON.strip() + NDJSON)
    assert [line.problem for line in lines] == [None, "holds more than one object"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (HEADER, "holds no people"),
        ("[]", "holds no people"),
        (HEADER + "nobody,,,,\n", "holds no people that can be read"),
        (b"\x7fELF\x02\x01\x00\x00" * 100, "not UTF-8 text"),
        (b"PK\x03\x04\x14\x00" * 100, "not UTF-8 text"),
        ((HEADER + ROW).encode("utf-16"), "not UTF-8 text"),
        ((HEADER + ROW.replace("Ada", "Ad\u00e4")).encode("latin-1"), "not UTF-8 text"),
        ((HEADER + ROW * 20_000).encode() + b"\xff", "somewhere after its person 1|2"),
        (
            "name,mail\nAda,ada@example.com\n",
            r"no column .email. in its first line\. Nothing",
        ),
        ("email,email\na@b,a@b\n", "names a column twice"),
        ('"email\n', "no header"),
        (HEADER + ROW + "bea@exam", "ends in the middle of line 3"),
        (HEADER + ROW + 'bea@example.com,"Bea', "ends in the middle of line 3"),
        (HEADER + "\0" + ROW, "not UTF-8 text"),
        (HEADER + "x" * 70_000, "Line 2 of the directory is longer than 65536"),
        ("[" + NDJSON, "ends in the middle of line 2"),
        ("[" + NDJSON + ",", "ends in the middle of line 2"),
        ("[" + NDJSON + ',{"email": "bea@', "ends in the middle of line 2"),
        ("[" + NDJSON * 2 + "]", "not JSON from line 2 on"),
        ("[" + (NDJSON + "," + "{email: x},") * 3_000 + "]", "not JSON from line 2 on"),
        (NDJSON + '{"email": "bea@', "ends in the middle of line 2"),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_as_a_whole(
    db: Engine, monkeypatch: pytest.MonkeyPatch, file: Path, content: str | bytes, message: str
) -> None:
    monkeypatch.setattr(db, "settings", db.settings)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    set_directory(file)
    with pytest.raises(SyncFailed, match=message):
        await run_directory()
    assert (await User.count(), await AuditLog.count()) == (0, 0)


@pytest.mark.any_version
async def test_a_path_that_leads_to_no_usable_file_is_refused(
    db: Engine, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(db, "settings", db.settings)
    for path in (file, file.parent, "/dev/zero", "x\x00y", "file:///etc/passwd"):
        set_directory(path)
        with pytest.raises(SyncFailed, match="DIRECTORY_URL: "):
            await run_directory()
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)  # 1 GiB
    set_directory(file)
    with pytest.raises(SyncFailed, match="bigger than 200 MiB"):
        await run_directory()
    assert download.BIGGEST == 200 * 1024 * 1024


async def test_each_of_many_broken_lines_is_named(
    db: Engine, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(db, "settings", db.settings)
    rows = [f"p{n}@example.com,,,," if n % 10 else f"p{n},,,," for n in range(2_000)]
    file.write_text(HEADER + "\n".join(rows))
    set_directory(file)
    report = await run_directory()
    assert (report.items, report.done, len(report.failures)) == (2_000, 1_800, 200)
    assert report.failures["line 12"] == "'p10' is no e-mail address"


@pytest.mark.any_version
@pytest.mark.parametrize("kind", ["csv", "array", "ndjson"])
async def test_memory_does_not_grow_with_the_directory(
    db: Engine, monkeypatch: pytest.MonkeyPatch, file: Path, kind: str
) -> None:
    monkeypatch.setattr(db, "settings", db.settings)

    def write(people: int) -> None:
        emails = (f"person{n}@example.com" for n in range(people))
        with file.open("w") as out:
            if kind == "csv":
                out.write("email,display_name\n")
                out.writelines(f"{email},A name of some length\n" for email in emails)
            elif kind == "ndjson":
                out.writelines(json.dumps({"email": email}) + "\n" for email in emails)
            else:
                out.write(json.dumps([{"email": email} for email in emails]))

    async def peak(people: int) -> int:
        write(people)
        set_directory(file)
        tracemalloc.start()
        report = await run_directory(Report(dry_run=True))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert report.items == people
        return highest

    await peak(100)  # what is loaded once
    small, large = await peak(5_000), await peak(50_000)
    assert large < small + 2 * 1024**2  # what COPY collects before it sends


@pytest.mark.any_version
async def test_progress_comes_in_steps_and_a_cancelled_run_can_go_on(
    db: Engine, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(db, "settings", db.settings)
    monkeypatch.setattr("sync_history.directory.source.BATCH", 10)

    class Stopped(Exception):
        pass

    class Impatient(Report):
        def synced(self, n: int = 1) -> None:
            super().synced(n)
            if self.steps == 4:  # the first tells what was right from the start
                raise Stopped

    set_directory(write_json(file, *({"email": f"p{n}@example.com"} for n in range(100))))
    report = Impatient()
    with pytest.raises(Stopped):
        await run_directory(report)
    assert (report.items, report.done, await User.count()) == (100, 30, 30)
    assert await DirectoryChange.count() == 100
    second = await run_directory(Report(2))
    assert (second.items, second.done, second.notes) == (100, 100, ["70 created."])
    assert second.steps == 8
    assert await DirectoryChange.count() == 0


@pytest.mark.any_version
async def test_a_run_whose_plan_another_run_replaced_does_nothing_more(
    db: Engine, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """It was stopped, given up for dead, and wakes up again."""
    monkeypatch.setattr(db, "settings", db.settings)
    monkeypatch.setattr("sync_history.directory.source.BATCH", 1)
    others = []

    class Zombie(Report):
        def synced(self, n: int = 1) -> None:
            super().synced(n)
            if self.steps == 4:
                plan = db.fetch("UPDATE directory_changes SET run_id = 2")
                others.append(asyncio.create_task(plan))

    set_directory(write_json(file, *({"email": f"p{n}@example.com"} for n in range(100))))
    report = Zombie()
    await run_directory(report)
    await asyncio.gather(*others)
    assert report.done == await User.count() < 100
    assert report.notes == [f"{report.done} created."]
    assert await DirectoryChange.count() == 100
