"""`piccolo home ...`, run as a person would run it."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import inspect
import os
import pty
import re
import secrets
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from targ import CLI

import piccolo_conf
from home.accounts.credentials import AccountDisabled
from home.accounts.seeds import PEOPLE, SEED_PASSWORD
from home.tables import Session, User
from tests.conftest import PASSWORD, ROOT, Done, point_at, run_groundwork, run_piccolo

pytestmark = pytest.mark.any_version

NOWHERE = "postgresql://ada:canary-c4n4ry@127.0.0.1:1/nothing"
LAST_SUPERUSER = (
    "The database refused: the last active superuser cannot be removed, disabled or demoted"
)
ADA = "--email=ada@example.com"


def create_user(
    url: str, *options: str, password: str = PASSWORD, run: Callable[..., Done] = run_groundwork
) -> Done:
    arguments = ("home", "create_user", "--password-stdin", *options)
    return run(url, *arguments, stdin=f"{password}\n")


def at_once(*runs: Callable[[], Done]) -> list[Done]:
    with ThreadPoolExecutor() as pool:
        return [run.result() for run in [pool.submit(run) for run in runs]]


def the_one_line(done: Done, code: int = 1) -> str:
    """What a failed command said, having checked that it is one line, and nothing else."""
    assert (done.returncode, done.stdout) == (code, "")
    assert PASSWORD not in done.stderr
    assert "Traceback" not in done.stderr
    [line] = done.stderr.splitlines()
    return line


async def emails() -> list[str]:
    return await User.select(User.email).order_by(User.id).output(as_list=True)


class Terminal:
    """A person at a terminal: waits for a prompt, then types."""

    def __init__(self, url: str, *arguments: str) -> None:
        self.output = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "piccolo"), *arguments],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C and getpass
        )
        os.close(theirs)

    def type(self, prompt: str, text: str) -> None:
        while not self.output.endswith(prompt):
            assert self._read(), self.output
        while not self._waits_for_input():
            time.sleep(0.001)
        os.write(self.ours, text.encode())

    def leave(self) -> int:
        """The exit code."""
        while self._read():
            pass
        return self.process.wait(60)

    def switch_off(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)

    def _waits_for_input(self) -> bool:
        """A Ctrl-C between prompt and read is lost in CPython; people are not as fast."""
        status = Path(f"/proc/{self.process.pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] not in "RD"

    def _read(self) -> bool:
        if not select.select([self.ours], [], [], 60)[0]:
            return False
        with contextlib.suppress(OSError):  # Linux: nobody is at the other end
            chunk = os.read(self.ours, 10_000)
            self.output += self._decode(chunk)  # which may end within a character
            return bool(chunk)
        return False


@pytest.fixture
def terminal(url: str) -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def terminal(*arguments: str) -> Terminal:
        terminals.append(Terminal(url, *arguments))
        return terminals[-1]

    yield terminal
    for each in terminals:
        each.switch_off()


async def test_the_first_account_is_an_administrator_and_the_second_is_not(url: str) -> None:
    done = create_user(url, ADA, "--display_name=Ada L.")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "created ada@example.com, an administrator\n"
    done = create_user(url, "--email=Mel@Example.com")
    assert done.stdout == "created mel@example.com\n"
    ada, mel = await User.select(
        User.email, User.display_name, User.is_admin, User.is_superuser, User.is_approved
    ).order_by(User.id)
    assert tuple(ada.values()) == ("ada@example.com", "Ada L.", True, True, True)
    assert tuple(mel.values()) == ("mel@example.com", None, False, False, True)
    assert await User.login("mel@example.com", PASSWORD) is not None


async def test_rights_are_given_by_flags(url: str, administrator: User) -> None:
    at_once(
        partial(create_user, url, "--email=mel@example.com", "--admin"),
        partial(create_user, url, "--email=sue@example.com", "--superuser"),
        partial(create_user, url, "--email=pat@example.com", "--admin=False", run=run_piccolo),
    )
    rows = await User.select(User.email, User.is_admin, User.is_superuser).order_by(User.email)
    assert [tuple(row.values()) for row in rows] == [
        ("ada@example.com", True, True),
        ("mel@example.com", True, False),
        ("pat@example.com", False, False),
        ("sue@example.com", True, True),
    ]


async def test_what_breaks_a_rule_is_refused_in_one_line(url: str, administrator: User) -> None:
    mel = "--email=mel@example.com"
    password, address = "Choose a password of 8", "This is not a valid e-mail address"
    cases = [
        ((mel,), "short", password),
        ((mel,), "\x1b" * 20, "Choose a password without control characters"),
        ((mel,), "x" * 1_000_000, password),
        ((mel, "--admin"), "eleven char", "Choose an administrator's password of 15"),
        (("--email=ADA@example.com ",), PASSWORD, "There is already an account with this"),
        (("--email=mel at example.com",), PASSWORD, address),
        (("--email=a@b@c",), PASSWORD, address),
        (("--email=" + "a" * 250 + "@b.com",), PASSWORD, address),
        (("--email=\x1b[31mmel@example.com",), PASSWORD, address),
        (("--email=mel@example.com\udcff",), PASSWORD, address),
    ]
    runs = [
        partial(create_user, url, *options, password=password) for options, password, _ in cases
    ]
    for done, (_, _, complaint) in zip(at_once(*runs), cases, strict=True):
        assert the_one_line(done).startswith(complaint)
    assert await emails() == ["ada@example.com"]


async def test_a_password_that_never_comes_creates_nothing(url: str) -> None:
    ask = partial(run_groundwork, url, "home", "create_user", ADA)
    for done in at_once(partial(ask, "--password-stdin"), partial(ask, "--password_stdin")):
        assert the_one_line(done) == "The input ended; nothing was changed"
    assert await emails() == []


async def test_a_password_that_cannot_be_decoded_creates_nothing(url: str) -> None:
    arguments = ("home", "create_user", ADA, "--password-stdin")
    done = run_groundwork(url, *arguments, stdin=f"{PASSWORD} ä\n", PYTHONIOENCODING="ascii")
    assert the_one_line(done) == "The password is not UTF-8 text; nothing was changed"
    assert await emails() == []


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--password=x", "Got an unexpected keyword argument 'password'; see --help"),
        ("--nonsense", "Got an unexpected keyword argument 'nonsense'; see --help"),
        ("--email", "--email needs a value: --email=...; see --help"),
        ("--admin=no", "--admin is a flag: give it without a value, or not at all; see --help"),
    ],
)
def test_wrong_options_are_refused_before_the_database_is_asked(
    option: str, complaint: str
) -> None:
    assert the_one_line(create_user(NOWHERE, option, run=run_piccolo), code=2) == complaint


async def test_without_a_terminal_it_says_how_to_do_without(url: str) -> None:
    ask = partial(run_groundwork, url, "home", "create_user", stdin="x\n")
    for done in at_once(ask, partial(ask, ADA)):
        hint = "There is no terminal to ask at: use --email=... and --password-stdin"
        assert the_one_line(done) == hint
    assert await emails() == []


async def test_a_person_at_a_terminal_is_asked(terminal: Callable[..., Terminal]) -> None:
    person = terminal("home", "create_user")
    person.type("E-mail: ", "ada@example.com\n")
    person.type("Password: ", f"{PASSWORD}\n")
    person.type("Password again: ", f"{PASSWORD}\n")
    assert person.leave() == 0
    assert "created ada@example.com, an administrator" in person.output
    assert PASSWORD not in person.output
    assert await User.login("ada@example.com", PASSWORD) is not None


async def test_two_passwords_that_differ_create_nothing(terminal: Callable[..., Terminal]) -> None:
    person = terminal("home", "create_user", ADA)
    person.type("Password: ", f"{PASSWORD}\n")
    person.type("Password again: ", f"{PASSWORD}!\n")
    assert person.leave() == 1
    assert person.output.endswith("The two passwords differ; nothing was changed\r\n")
    assert PASSWORD not in person.output
    assert await emails() == []


@pytest.mark.parametrize(
    ("key", "code", "line"),
    [("\x03", 130, "Interrupted"), ("\x04", 1, "The input ended; nothing was changed")],
)
async def test_one_ctrl_c_or_ctrl_d_ends_a_prompt(
    terminal: Callable[..., Terminal], key: str, code: int, line: str
) -> None:
    prompts = {"E-mail: ": terminal("home", "create_user")}
    prompts["Password: "] = terminal("home", "create_user", ADA)
    for prompt, person in prompts.items():
        person.type(prompt, key)
        assert person.leave() == code
        assert person.output.endswith(f"{line}\r\n")
    assert await emails() == []


async def test_two_at_once_with_one_address_make_one_account(url: str) -> None:
    attempts = at_once(*[partial(create_user, url, ADA)] * 2)
    won, lost = sorted(attempts, key=lambda done: done.returncode)
    assert won.stdout == "created ada@example.com, an administrator\n"
    assert the_one_line(lost) == "There is already an account with this e-mail address"
    assert await emails() == ["ada@example.com"]


async def test_seeding_again_adds_nothing(url: str) -> None:
    expected = [person["username"] for person in PEOPLE]
    for created in (len(PEOPLE), 0):
        done = run_groundwork(url, "home", "seed")
        said = f"created {created} people; their password is {SEED_PASSWORD}\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
        assert await emails() == expected
    assert await User.login("mel@example.com", SEED_PASSWORD) is not None
    with pytest.raises(AccountDisabled):
        await User.login("dan@example.com", SEED_PASSWORD)


@pytest.fixture
async def production_url(url: str, maintenance: asyncpg.Connection) -> str:
    """As a deployer with a password of his own, since production refuses placeholders."""
    password = secrets.token_hex()
    with contextlib.suppress(asyncpg.DuplicateObjectError):
        await maintenance.execute("CREATE ROLE deployer SUPERUSER LOGIN")
    await maintenance.execute(f"ALTER ROLE deployer PASSWORD '{password}'")
    return f"postgresql://deployer:{password}@{url.rpartition('@')[2]}"


async def test_production_is_neither_seeded_nor_reset_by_mistake(
    production_url: str, administrator: User
) -> None:
    run = partial(run_piccolo, production_url, "home", ENVIRONMENT="production")
    resets = (partial(run, "reset"), partial(run, "reset", "--force=False"))
    seed, *refused = at_once(partial(run, "seed"), *resets)
    assert the_one_line(seed) == "Seed is for development: its people have a known password"
    for done in refused:
        assert the_one_line(done).endswith("outside development it needs --force")
    assert await emails() == ["ada@example.com"]
    done = run("reset", "--force")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "dropped and rebuilt")
    assert await emails() == []


async def test_reset_in_development_needs_no_force(url: str, administrator: User) -> None:
    done = run_groundwork(url, "home", "reset")
    assert (done.returncode, done.stderr) == (0, "")
    assert await emails() == []
    assert run_groundwork(url, "home", "verify").returncode == 0


async def test_setup_builds_everything_and_prints_a_password_once(empty_url: str) -> None:
    point_at(empty_url)
    attempts = at_once(*[partial(run_groundwork, empty_url, "home", "setup")] * 2)
    assert [done.returncode for done in attempts] == [0, 0]
    [password] = re.findall("only now: (.*)", "".join(done.stdout for done in attempts))
    assert await User.login("admin@example.com", password) is not None
    await User.update({User.email: "ada@example.com"}, force=True)
    done = run_groundwork(empty_url, "home", "setup")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert await emails() == ["ada@example.com"]


async def test_without_tables_a_command_names_the_one_to_run_first(empty_url: str) -> None:
    done = create_user(empty_url, ADA)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "The database lacks tables; run piccolo home migrate"
    assert "Traceback" not in done.stderr


async def test_another_password_is_set(url: str) -> None:
    create_user(url, ADA)
    set_password = ("home", "set_password", "--password-stdin")
    done = run_groundwork(url, *set_password, ADA, stdin="another good phrase\n")
    assert done.stdout == "ada@example.com has another password, and no sessions\n"
    done = run_groundwork(url, *set_password, ADA, stdin="short\n")
    assert "15 to 128 characters" in the_one_line(done)
    done = run_groundwork(url, *set_password, "--email=x@example.com", stdin="another phrase\n")
    assert the_one_line(done) == "There is no account with this e-mail address"
    assert await User.login("ada@example.com", "another good phrase") is not None


@pytest.mark.parametrize("name", ["migrate", "create_user", "reset"])
def test_a_database_that_is_down_is_said_in_one_line(name: str) -> None:
    line = the_one_line(run_groundwork(NOWHERE, "home", name))
    assert line == "The database is unavailable: refused"


def test_settings_that_are_wrong_are_said_without_a_traceback() -> None:
    done = run_groundwork("mysql://ada:canary-c4n4ry@db/x", "home", "migrate")
    said = "Settings cannot be used:\nDATABASE_URL: must begin with postgresql://\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def own_commands() -> list[Callable[..., object]]:
    apps = piccolo_conf.APP_REGISTRY.app_configs.values()
    return [command.callable for app in apps for command in app.get_commands()]


@pytest.mark.parametrize("command", own_commands(), ids=lambda command: command.__name__)
def test_help_describes_the_command_and_each_option(
    command: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As targ shows it, which piccolo asks."""
    name, options = command.__name__, [*inspect.signature(command).parameters]
    cli = CLI()
    cli.register(command, group_name="app")
    monkeypatch.setattr(sys, "argv", ["piccolo", "app", name, "--help"])
    cli.run()
    lines = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out).split("\n")
    assert len(lines[lines.index(name) + 2]) > 20
    for option in options:
        names = (f"{option} ", f"{option} [")  # without and with a default
        [line] = [
            n for n, line in enumerate(lines) if line == names[0] or line.startswith(names[1])
        ]
        assert len(lines[line + 1]) > 10


async def test_sessions_are_ended_and_purged(url: str, member: User, administrator: User) -> None:
    for person in (member, member, administrator):
        await Session.create_session(person.id)
    assert run_groundwork(url, "home", "revoke_sessions").returncode == 2
    unknown = run_groundwork(url, "home", "revoke_sessions", "--email=nobody@example.com")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    done = run_groundwork(url, "home", "revoke_sessions", "--email= Mel@example.com")
    assert done.stdout == "ended 2 sessions\n"
    assert await Session.select(Session.user_id).output(as_list=True) == [administrator.id]
    await Session.update({Session.expire: datetime(2020, 1, 1, tzinfo=UTC)}, force=True)
    assert run_groundwork(url, "home", "purge_sessions").stdout == "removed 1 sessions\n"
    assert await Session.count() == 0
    await Session.create_session(administrator.id)
    assert (
        run_groundwork(url, "home", "revoke_sessions", "--everybody").stdout == "ended 1 sessions\n"
    )


async def test_accounts_are_listed_with_what_they_may(url: str, administrator: User) -> None:
    await User.create_user("mel@example.com", PASSWORD, is_approved=True)
    await User.create_user("zed@example.com", PASSWORD, is_disabled=True)
    done = run_groundwork(url, "home", "list_users")
    assert (done.returncode, done.stdout) == (
        0,
        "ada@example.com\tsuperuser\n"
        "mel@example.com\tmember\n"
        "zed@example.com\tawaits approval\tdisabled\n",
    )


async def test_rights_are_changed_and_the_trail_says_by_whom(
    url: str, administrator: User, member: User
) -> None:
    options = ("--email=MEL@example.com", "--admin=yes", "--auditor=yes", "--approved=no")
    done = run_groundwork(url, "home", "change_permissions", *options, USER="zoe")
    assert (done.returncode, done.stdout) == (0, "changed mel@example.com\n")
    mel = await User.objects().get(User.id == member.id)
    assert mel is not None
    assert (mel.is_admin, mel.is_approved, mel.is_superuser) == (True, False, False)
    assert mel.is_auditor
    assert "mel@example.com\tadministrator\tauditor\tawaits approval" in (
        run_groundwork(url, "home", "list_users").stdout
    )
    database = await asyncpg.connect(url)
    newest = await database.fetchrow(
        "SELECT action, actor FROM audit_logs WHERE resource = 'users' ORDER BY id DESC LIMIT 1"
    )
    await database.close()
    assert newest is not None
    assert newest["action"] == "users.update"
    assert newest["actor"].startswith("cli:")


RIGHTS = "--admin, --superuser, --auditor, --approved, --disabled"


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        ([], 2, f"Give at least one of {RIGHTS}; see --help"),
        (["--admin=maybe"], 2, "--admin is yes or no; see --help"),
        (["--superuser=no"], 1, LAST_SUPERUSER),
    ],
)
async def test_rights_that_cannot_be_changed_stay(
    url: str, administrator: User, options: list[str], code: int, line: str
) -> None:
    done = run_groundwork(url, "home", "change_permissions", ADA, *options)
    assert the_one_line(done, code) == line
    await administrator.refresh()
    assert administrator.is_superuser
