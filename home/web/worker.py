"""One of several processes that serve the same socket; `home.web.workers` looks after them.

Only the process manager decides when a worker ends: by SIGTERM together with all others, or by
`RETIRE`, when another has taken its place and nobody is in a hurry.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from socket import socket
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.config import STARTUP_FAILURE

from audit import counts
from home.accounts import passwords
from home.config.exiting import EXIT_SECONDS, exit_within
from home.database.connection import LOST
from home.web.server import Server, end_on_signals, uvicorn_config

RETIRE, PING = b"retire", b"ping"
# What a terminal sends to all of its processes: the manager hears it, and tells the workers.
OF_THE_MANAGER = (signal.SIGINT, signal.SIGHUP) if sys.platform != "win32" else ()
# How long those who asked before may ask again, at a worker that retires. Each answer is the last
# one of its connection. Who says nothing for so long is hung up on.
LAST_REQUEST_SECONDS = 5.0


@dataclass
class Place:
    """What a worker is given.

    Args:
        channel: to the process manager.
        sockets: that listen.
        memory: for figures, shared by all workers; of so many seats.
        index: of its seat.
    """

    channel: Connection[Any, Any]
    sockets: list[socket]
    memory: Any
    seats: int
    index: int


class WorkerServer(Server):
    """A server that tells the process manager how it does, and may retire."""

    def __init__(
        self,
        config: uvicorn.Config,
        stop_database: Callable[[], None] | None,
        channel: Connection[Any, Any],
    ) -> None:
        super().__init__(config, stop_database)
        self.channel = channel
        self._sending = threading.Lock()
        self._is_told_to_retire = False
        self._retires_until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, unless it is for the process manager to decide."""
        if sig not in OF_THE_MANAGER:
            super().handle_exit(sig, frame)

    def listen(self) -> None:
        """Answer the process manager until it is gone, and then end."""
        try:
            while True:
                if self.channel.recv() == RETIRE:
                    self._is_told_to_retire = True
                else:
                    self._say()
        except (EOFError, OSError):
            os.kill(os.getpid(), signal.SIGTERM)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Say that it serves, once it does."""
        await super().startup(sockets)
        self._say()

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether to end."""
        if self._is_told_to_retire and not self.should_exit:
            self._retire()
        return await super().on_tick(counter)

    def _say(self) -> None:
        with self._sending:
            self.channel.send(self.started)

    def _retire(self) -> None:
        """Take no new connections, and end those that are there after one more answer."""
        now, connections = monotonic(), self.server_state.connections
        if self._retires_until is None:
            self._retires_until = now + LAST_REQUEST_SECONDS
            exit_within(LAST_REQUEST_SECONDS + EXIT_SECONDS, last=self.stop_database)
            for server in self.servers:
                server.close()
            peers = getattr(self.config.http_protocol_class, "peers", None)
            if peers is None:  # h11's know only how to end at once
                self._retires_until = now
            else:
                peers.end_after_answers()
        if not connections or now >= self._retires_until:
            self.should_exit = True


def serve_as_worker(app: Starlette, place: Place) -> None:
    """Serve until the process manager says that it is enough, or is gone."""
    db, settings = app.state.services.db, app.state.services.settings
    stop_database = db.embedded.stop if db.embedded else None
    end_on_signals(stop_database)
    for number in OF_THE_MANAGER:
        # A handler, since what is ignored would be so in programs that sources start, too.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_MANAGER)
    seats = counts.Seats(place.memory, place.seats)
    header = counts.sit_down(seats, place.index, ["gauge"])
    db.timings.numbers = header[1 : 2 + LOST]
    passwords.share_cores(settings.workers)
    config = uvicorn_config(app, settings.listen_host, settings.listen_port)
    server = WorkerServer(config, stop_database, place.channel)
    threading.Thread(target=server.listen, name="manager", daemon=True).start()
    server.run(sockets=place.sockets)
    if not server.started:
        sys.exit(STARTUP_FAILURE)
