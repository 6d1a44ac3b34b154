"""A cluster that Patroni manages: etcd and two members, on loopback ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.postgres import data_folder, free_port

INSTALL = "apt-get install patroni etcd-server"
PROGRAMS = ("etcd", "patroni", "patronictl")
# JSON, which is YAML as well. As quick as Patroni lets itself be set.
DYNAMIC = {
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    "synchronous_mode": True,
    "synchronous_mode_strict": True,
    "primary_start_timeout": 0,  # another one takes over, rather than that it is started again
    "postgresql": {"use_pg_rewind": True, "parameters": {"fsync": "off", "wal_log_hints": "on"}},
}
SUPERUSER = {"username": "postgres", "password": "postgres"}


def is_installed() -> bool:
    return all(shutil.which(program) for program in PROGRAMS)


class Member:
    """A server and its Patroni."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder / name
        self.port, self.api = free_port(), free_port()

    def configuration(self, binaries: Path, etcd: int) -> str:
        access = [f"host {what} all 127.0.0.1/32 scram-sha-256" for what in ("all", "replication")]
        return json.dumps(
            {
                "scope": "groundwork",
                "name": self.name,
                "restapi": {"listen": f"127.0.0.1:{self.api}"},
                "etcd3": {"host": f"127.0.0.1:{etcd}"},
                "bootstrap": {
                    "dcs": DYNAMIC,
                    "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
                },
                "postgresql": {
                    "listen": f"127.0.0.1:{self.port}",
                    "connect_address": f"127.0.0.1:{self.port}",
                    "data_dir": str(self.folder / "data"),
                    "bin_dir": str(binaries),
                    "pgpass": str(self.folder / "pgpass"),
                    "pg_hba": access,
                    "authentication": {"superuser": SUPERUSER, "replication": SUPERUSER},
                    "parameters": {"unix_socket_directories": str(self.folder)},
                },
            }
        )

    def state(self) -> dict[str, object]:
        """What its Patroni says; nothing while it does not answer."""
        with suppress(OSError):
            address = f"http://127.0.0.1:{self.api}/patroni"
            with urllib.request.urlopen(address, timeout=2) as answer:
                found: dict[str, object] = json.load(answer)
                return found
        return {}

    def kill_postgres(self) -> None:
        """kill -9 of the postmaster, whose Patroni lives on."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)


class Cluster:
    """Patroni's cluster of two, each of which stands by synchronously for the other."""

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.folder = data_folder()
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self.etcd = free_port()
        self.members = [Member(name, self.folder) for name in ("one", "two")]
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.etcd, free_port()))
        self._run(
            "etcd", "--data-dir", self.folder / "etcd", "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}",
        )  # fmt: skip
        for member in self.members:
            member.folder.mkdir()
            if self.user:
                shutil.chown(member.folder, self.user)
            file = member.folder / "patroni.yml"
            file.write_text(member.configuration(self.binaries, self.etcd))
            self._run("patroni", file)
        self.until(self.is_synchronous)

    def _run(self, program: str, *arguments: object) -> None:
        log = (self.folder / "log").open("ab")
        command = [program, *map(str, arguments)]
        self._processes.append(
            subprocess.Popen(command, user=self.user, stdout=log, stderr=log, cwd=self.folder)
        )
        log.close()

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                said = (self.folder / "log").read_text().splitlines()[-20:]
                raise AssertionError("\n".join(["Patroni is not ready; it said:", *said]))
            time.sleep(0.05)

    def leader(self) -> Member | None:
        return next((each for each in self.members if each.state().get("role") == "master"), None)

    def is_synchronous(self) -> bool:
        """Whether there is a leader, and a standby without which it acknowledges nothing."""
        states = [member.state() for member in self.members]
        return sum("sync_standby" in state for state in states) == 1 and any(
            state.get("role") == "master" for state in states
        )

    def switch_over(self) -> None:
        """What `patronictl switchover` does: the leader hands over, and stands by then."""
        file = self.members[0].folder / "patroni.yml"
        command = ["patronictl", "-c", str(file), "switchover", "groundwork", "--force"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def url_of_leader(self) -> str:
        leader = self.leader()
        assert leader is not None
        return f"postgresql://postgres:postgres@127.0.0.1:{leader.port}/postgres"

    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"postgresql://postgres:postgres@{places}/postgres"

    def remove(self) -> None:
        for process in reversed(self._processes):  # etcd last
            process.terminate()  # Patroni stops its server
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
