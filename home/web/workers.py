"""Several processes that serve one socket: uvicorn's manager, which here never waits for one.

Each worker is started anew (not forked), so that SIGHUP brings in new code and settings. The socket
is the process manager's: while workers come and go, connections wait in its queue.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import wait
from socket import socket, socketpair
from time import monotonic
from typing import NoReturn

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from audit.counts import Seats
from audit.log import Logger
from home.config.exiting import exit_within
from home.web.server import TIDY_UP_SECONDS
from home.web.worker import OF_THE_MANAGER, RETIRE, Place
from home.web.worker_handle import END_SECONDS, PING_SECONDS, Worker

# A worker that dies so soon after its start would die again: pauses double.
QUICK_SECONDS = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0

log = Logger("groundwork.workers")
spawn = get_context("spawn")


class ProcessManager(Multiprocess):
    """Keeps so many workers serving.

    Args:
        config: its `workers` is how many.
        work: what each does, a function of the main module.
    """

    workers: list[Worker]

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket], work: Callable[[Place], None]
    ) -> None:
        is_kept = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # nohup
        super().__init__(config, sockets)
        if is_kept:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.work = work
        self.workers = []
        number = self.processes_num + 1  # one more while another is replaced
        self.memory = spawn.RawArray("B", Seats.bytes_for(number))
        self.seats = Seats(self.memory, number)
        self.exit_code = 0
        self._has_served = False
        self._to_replace: list[Worker] = []
        self._replacement: tuple[Worker, Worker] | None = None  # the new one, and for whom
        self._quick_deaths = 0
        self._not_before = 0.0

    def run(self) -> None:
        """Look after the workers until a signal ends them all, or they cannot start."""
        woken, wakes = socketpair()
        woken.setblocking(False)
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        try:
            while not self.should_exit.is_set():
                now = monotonic()
                self.look(now)
                if not self.should_exit.is_set():
                    self._wait(woken, now)
                self.handle_signals()
            self._end_all()
        finally:
            signal.set_wakeup_fd(-1)
            woken.close()
            wakes.close()

    def look(self, now: float) -> None:
        """Do what is to be done about each worker now."""
        for worker in list(self.workers):
            worker.hear(now)
            if not worker.process.is_alive():
                self._bury(worker, now)
            elif not worker.given_up and (why := worker.overdue(now)):
                worker.given_up = why
                log.error("worker_killed", **worker.fields, reason=why)
                worker.process.kill()
            elif worker.ready_at is not None and not self._has_served:
                self._has_served = True
        if self.should_exit.is_set():
            return
        self._replace(now)
        # The first one alone: what keeps it from starting would keep all, and is said once.
        wanted = self.processes_num if self._has_served else 1
        wanted += self._replacement is not None
        while len(self._serving()) < wanted and now >= self._not_before:
            self._start()

    def restart_all(self) -> None:
        """Have each worker replaced, one after the other."""
        old = self._replacement[1] if self._replacement else None
        self._to_replace = [each for each in self._serving() if each is not old]

    def handle_ttin(self) -> None:
        """As handle_ttou: WORKERS says how many, and was compared with what the server has."""

    def handle_ttou(self) -> None: ...

    def _serving(self) -> list[Worker]:
        return [each for each in self.workers if each.retires_at is None]

    def _start(self) -> Worker:
        taken = {each.index for each in self.workers}
        index = next(each for each in range(self.seats.number) if each not in taken)
        ours, theirs = spawn.Pipe()
        place = Place(theirs, self.sockets, self.memory, self.seats.number, index)
        process = spawn.Process(target=self.work, args=(place,))
        # From its first moment on it does not hear what is for the process manager.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_MANAGER)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()  # so that its end is that of the worker
        worker = Worker(process, ours, index)
        self.workers.append(worker)
        log.info("worker_started", **worker.fields)
        return worker

    def _replace(self, now: float) -> None:
        if self._replacement is not None:
            new, old = self._replacement
            if new.ready_at is None:
                return
            self._replacement = None
            old.retires_at = now
            with suppress(OSError):  # it has just died
                old.channel.send(RETIRE)
        if len(self._serving()) < len(self.workers) or now < self._not_before:
            return  # one after the other
        self._to_replace = [each for each in self._to_replace if each in self.workers]
        if self._to_replace and self._has_served:
            old = self._to_replace.pop(0)
            self._replacement = self._start(), old

    def _bury(self, worker: Worker, now: float) -> None:
        """Note that a worker has ended, and whether another one may follow at once."""
        worker.process.join()
        worker.channel.close()
        self.workers.remove(worker)
        self.seats.leave(worker.index)
        if worker.retires_at is not None:
            log.info("worker_retired", **worker.fields)
            return
        code = worker.process.exitcode or 0
        is_of_itself = worker.ready_at is None and (code > 0 or worker.given_up != "")
        is_replacement = self._replacement is not None and worker is self._replacement[0]
        if self._replacement is not None and worker in self._replacement:
            if is_replacement and not is_of_itself:
                self._to_replace.insert(0, self._replacement[1])
            self._replacement = None
        if is_of_itself and is_replacement:
            self._to_replace = []
            log.error("restart_given_up", **worker.fields, exit_code=code)
            return
        if is_of_itself and not any(each.ready_at for each in self._serving()):
            log.error("workers_cannot_start", exit_code=code)
            self.exit_code = STARTUP_FAILURE
            self.should_exit.set()
            return
        is_quick = worker.ready_at is None or now - worker.ready_at < QUICK_SECONDS
        self._quick_deaths = self._quick_deaths + 1 if is_quick else 0
        pause = FIRST_PAUSE * 2.0 ** min(self._quick_deaths - 1, 10) if is_quick else 0.0
        self._not_before = now + min(pause, LONGEST_PAUSE)
        how = {"signal": signal.Signals(-code).name} if code < 0 else {"exit_code": code}
        log.warning("worker_died", **worker.fields, **how)

    def _wait(self, woken: socket, now: float) -> None:
        """Wait until a worker speaks or ends, a signal comes, or something is due."""
        seconds = PING_SECONDS
        if now < self._not_before:
            seconds = min(seconds, self._not_before - now)
        ends = [each.process.sentinel for each in self.workers]
        channels = [each.channel for each in self.workers if not each.is_gone]
        if woken in wait([woken, *ends, *channels], seconds):
            woken.recv(4096)

    def _end_all(self) -> None:
        deadline = monotonic() + END_SECONDS
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - monotonic()))
            if worker.process.is_alive():
                log.error("worker_killed", **worker.fields, reason="it did not end")
                worker.process.kill()
                worker.process.join()


def serve(
    work: Callable[[Place], None],
    host: str,
    port: int,
    number: int,
    stop_database: Callable[[], None] | None,
) -> NoReturn:
    """Serve with several processes until a signal ends them; exits with 3 if none can start."""
    config = uvicorn.Config("", host=host, port=port, workers=number, log_config=None)
    manager = ProcessManager(config, [config.bind_socket()], work)
    manager.run()
    exit_within(TIDY_UP_SECONDS, manager.exit_code, last=stop_database)
    sys.exit(manager.exit_code)
