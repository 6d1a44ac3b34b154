"""The arguments and options of one command."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from audit.spelling import did_you_mean
from home.command_line.catalogue import Command

PROGRAM = "groundwork"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest option."""

    def print_help(self, file: object = None) -> None:
        print(self.format_help(), end="")  # argparse itself hides that nobody reads it

    def error(self, message: str) -> NoReturn:
        word = message.rpartition(": ")[2].partition(" ")[0].partition("=")[0]
        known = [name for action in self._actions for name in action.option_strings]
        meant = did_you_mean(word, known) if word.startswith("--") and word not in known else ""
        self.exit(2, f"{message[:1].upper()}{message[1:]}.{meant} See {self.prog} --help.\n")


def read(command: Command, words: list[str]) -> dict[str, Any]:
    """Return the options of a command, as they were typed.

    Each that is no flag can also be given without its name, in their order; hyphens and
    underscores are the same.

    Raises:
        SystemExit: 2 where they do not fit, 0 where somebody asked for help.
    """
    parser = _parser(command)
    given = vars(parser.parse_intermixed_args(words))
    unnamed, valued = given.pop("arguments"), [p for p in command.parameters if p.kind is not bool]
    for parameter, text in zip(valued, unnamed, strict=False):
        if parameter.name in given:
            parser.error(f"{parameter.option} is given twice: {text!r}")
        try:
            given[parameter.name] = _number(text) if parameter.kind is int else text
        except argparse.ArgumentTypeError as error:
            parser.error(f"{parameter.option}: {error}")
    if more := unnamed[len(valued) :]:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    for parameter in command.parameters:
        if parameter.is_required and parameter.name not in given:
            parser.error(f"{parameter.option} is missing")
    return given


def _parser(command: Command) -> _Parser:
    prog = f"{PROGRAM} {command.group} {command.name}"
    names = [p.name for p in command.parameters if p.is_required]
    parser = _Parser(
        prog,
        usage=" ".join([prog, *names, "[options]"]),
        description=command.doc,
        allow_abbrev=False,
    )
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    for each in command.parameters:
        default = "" if each.default in (None, False, "") else f"(default: {each.default})"
        about = f"{each.help} {default}".strip().replace("%", "%%")
        for option in dict.fromkeys([each.option, f"--{each.name}"]):
            parser.add_argument(
                option,
                dest=each.name,
                default=argparse.SUPPRESS,
                help=about if option == each.option else argparse.SUPPRESS,
                **KINDS[each.kind],
            )
    return parser


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"needs a number, not {text!r}") from None


KINDS: dict[type, dict[str, Any]] = {
    bool: {"action": "store_true"},
    int: {"type": _number, "metavar": "NUMBER"},
    str: {"metavar": "TEXT"},
}
