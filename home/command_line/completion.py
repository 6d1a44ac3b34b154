"""Completion in bash and zsh: a short script asks `groundwork completion words` at each Tab."""

from __future__ import annotations

from collections.abc import Sequence

from home.command_line.catalogue import commands_of, groups

BASH = """\
# eval "$(groundwork completion bash)"
_groundwork() {
    local word=${COMP_WORDS[COMP_CWORD]}
    local found
    found=$("${COMP_WORDS[0]}" completion words "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)
    COMPREPLY=($(compgen -W "$found" -- "$word"))
}
complete -o default -F _groundwork groundwork
"""
ZSH = """\
# eval "$(groundwork completion zsh)", after compinit
_groundwork() {
    local -a found
    found=(${(f)"$("${words[1]}" completion words "${(@)words[2,CURRENT-1]}" 2>/dev/null)"})
    compadd -a found || _files
}
compdef _groundwork groundwork
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}


def words(typed: Sequence[str]) -> list[str]:
    """Return what may come after these words."""
    match list(typed):
        case []:
            return [*groups(), "completion", "--help", "--version"]
        case ["completion"]:
            return sorted(SCRIPTS)
        case [group]:
            return [*(each.name for each in commands_of(group)), "--help"]
        case [group, name, *_]:
            found = [each for each in commands_of(group) if each.name == name]
            return [*(p.option for each in found for p in each.parameters), "--help"]
    return []
