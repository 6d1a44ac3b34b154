"""A source cannot end the process: not even by a task that it started.

asyncio passes SystemExit and KeyboardInterrupt of any task on to whoever runs the event loop: the
server would end. Tasks that are created in the context of a run fail instead, and so does the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any

from sync_history.errors import SyncFailed
from sync_history.reporting import Run

_run: ContextVar[Run | None] = ContextVar("sync_run", default=None)


def current_run() -> Run | None:
    """Return the run in whose task this is called, or in that of something it started."""
    return _run.get()


def create_task(coroutine: Coroutine[Any, Any, None], run: Run, name: str) -> asyncio.Task[None]:
    """Create the task of a run's source. What it starts in turn is contained, too."""
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    if not isinstance(factory, _Factory):
        loop.set_task_factory(_Factory(factory))
    context = copy_context()
    context.run(_run.set, run)
    return loop.create_task(coroutine, name=name, context=context)


class _Factory:
    """Makes tasks, and contains those of a run. Others are made as they were before."""

    def __init__(self, inner: Callable[..., asyncio.Future[Any]] | None) -> None:
        self.inner = inner or _plain_task

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Future[Any]:
        run = _run.get() if context is None else context.get(_run)
        if run is not None and asyncio.iscoroutine(coroutine):
            coroutine = _Contained(coroutine, run)
        return self.inner(loop, coroutine, context=context, **options)


def _plain_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Future[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine that raises SyncFailed in place of what would end the process.

    A class, because a coroutine around another one would leave the inner one unawaited when its
    task is cancelled before it begins.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any], run: Run) -> None:
        self._inner = inner
        self._run = run

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise self._failure() from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise self._failure() from raised

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # cr_frame and the like, for who inspects tasks

    def _failure(self) -> SyncFailed:
        self._run.tried_to_exit = True
        return exit_refused()


def exit_refused() -> SyncFailed:
    """Return the failure of a source that tried to end the process."""
    return SyncFailed("The source tried to end the whole process.")
