"""How far a command is: shown to a person at a terminal, and to nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


Look = Callable[[], tuple[int, int | None]]


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs; call the result with what was done since.

    Args:
        what: a word or two, in front of the bar.
        total: how many there are; None shows that something is going on.
    """
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more

    with following(what, lambda: (done, total)):
        yield advance


@contextmanager
def following(what: str, look: Look) -> Iterator[None]:
    """Show the same for work that is counted elsewhere.

    Args:
        look: how many are done, and how many there are, now.
    """
    if not sys.stderr.isatty():
        yield
        return
    # Loading rich takes longer than many a command.
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    class Following(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            done, total = look()
            for task in self.tasks:
                self.update(task.id, completed=done, total=total)
            yield self.make_tasks_table(self.tasks)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Following(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(what, total=None)
        yield
