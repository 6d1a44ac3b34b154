"""`groundwork ...`: find the command, read its options, run it."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, NoReturn, cast

from audit.ending import output_written
from audit.spelling import did_you_mean
from home.command_line import completion
from home.command_line.catalogue import ROOT, Command, apps, commands_of, groups
from home.command_line.options import PROGRAM, read

if TYPE_CHECKING:
    from audit.apps import AppRegistry

LINE = 92  # characters for a command and its sentence
ABOUT = "All commands of this checkout; they work on the same database as the application."
MORE = f"""\
{PROGRAM} GROUP --help       what the commands of a group do
{PROGRAM} GROUP COMMAND --help
{PROGRAM} completion bash    or zsh: prints what completes these names in your shell
{PROGRAM} --version

Exit codes: 0 done, 1 failed, 2 mistyped, 130 interrupted; some commands have more."""


def main() -> NoReturn:
    """Do what the command line says, and exit."""
    with output_written():
        run(sys.argv[1:])
    sys.exit(0)


def run(words: Sequence[str]) -> None:
    """Run a command, or explain what there is.

    Raises:
        SystemExit: 2 where no command was given, or one that there is not.
    """
    match list(words):
        case []:
            print(overview(), file=sys.stderr)
            sys.exit(2)
        case ["-h" | "--help" | "help"]:
            print(overview())
        case ["--version"]:
            print(PROGRAM, version())
        case ["completion", *rest]:
            _complete(rest)
        case [group, *rest] if commands_of(group):
            _run_in(group, rest)
        case [word, *_]:
            if sentence := _instead(word):
                print(sentence, file=sys.stderr)
                sys.exit(2)
            known = [*groups(), "completion", "--help", "--version"]
            _mistyped(f"There is no group of commands {word!r}.{did_you_mean(word, known)}", "")


def version() -> str:
    """Return the version of this checkout, as pyproject.toml has it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def overview() -> str:
    """Return the list of all commands, by group, with a sentence for each."""
    parts = [f"Usage: {PROGRAM} GROUP COMMAND [options]", ABOUT]
    parts += [_listed(group) for group in groups()]
    return "\n\n".join([*parts, MORE])


def _listed(group: str) -> str:
    commands = commands_of(group)
    width = max(len(each.name) for each in commands)
    lines = [
        f"  {each.name:{width}}  {shorten(each.summary, LINE - width, placeholder=' ...')}"
        for each in commands
    ]
    return "\n".join([group if group in apps() else f"{group} (of Piccolo)", *lines])


def _run_in(group: str, words: list[str]) -> None:
    match words:
        case []:
            print(_listed(group), file=sys.stderr)
            sys.exit(2)
        case ["-h" | "--help"]:
            print(f"Usage: {PROGRAM} {group} COMMAND [options]\n\n{_listed(group)}")
        case [word, *rest]:
            known = {each.name: each for each in commands_of(group)}
            if word not in known:
                meant = did_you_mean(word, known)
                _mistyped(f"There is no command {word!r} in {group}.{meant}", f" {group}")
            _run_command(known[word], rest)


def _instead(word: str) -> str | None:
    """Return what an app says about a group of Piccolo's that is of no use here."""
    from audit.configured import piccolo_conf  # only for a word that is no group

    return cast("AppRegistry", piccolo_conf().APP_REGISTRY).instead().get(word)


def _complete(words: list[str]) -> None:
    match words:
        case ["bash" | "zsh" as shell]:
            print(completion.SCRIPTS[shell], end="")
        case ["words", *typed]:
            print("\n".join(completion.words(typed)))
        case _:
            _mistyped("Name the shell: completion bash, or completion zsh.", "")


def _mistyped(message: str, before: str) -> NoReturn:
    print(f"{message} See {PROGRAM}{before} --help.", file=sys.stderr)
    sys.exit(2)


def _run_command(command: Command, words: list[str]) -> None:
    options = read(command, words)
    from home.command_line.running import call  # what commands need takes a moment to import

    call(command, options)
