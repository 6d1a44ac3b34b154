"""PgBouncer in transaction mode, in front of a server of one's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.postgres import Server, free_port

INSTALL = "apt-get install pgbouncer"
# Few clients on purpose: a process has 20 connections, a health probe, and a command or two.
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
auth_user = postgres
logfile = {folder}/log
pool_mode = transaction
max_client_conn = {clients}
ignore_startup_parameters = {ignored}
default_pool_size = 20
"""


def find_pgbouncer() -> str | None:
    """The program's path."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


class PgBouncer:
    """A pooler for all databases of a server; its roles sign in as they do there.

    Args:
        ignored: start-up parameters that it takes without passing them on, with commas.
    """

    def __init__(
        self, program: str, server: Server, clients: int = 50, ignored: str = "extra_float_digits"
    ) -> None:
        self.server, self.port = server, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="groundwork-test-", dir="/tmp"))
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                server_port=server.port,
                port=self.port,
                folder=self.folder,
                clients=clients,
                ignored=ignored,
            )
        )
        (self.folder / "users").write_text('"postgres" "postgres"\n')
        if server.user:  # it refuses to run as root, too
            shutil.chown(self.folder, server.user)
        self.process = subprocess.Popen(
            [program, "--quiet", str(configuration)], user=server.user, cwd=self.folder
        )
        for _ in range(200):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def url(self) -> str:
        return f"postgresql://postgres:postgres@127.0.0.1:{self.port}/{self.server.database}"

    def remove(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
