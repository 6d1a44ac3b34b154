"""A real identity provider: oidc-provider, which is certified, in Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fasteners

from tests.live import ROOT
from tests.postgres import free_port

HERE = Path(__file__).resolve().parent
INSTALLED = ROOT / ".bench" / "identity_provider"
INSTALL = "apt-get install nodejs npm"
SECRET = "a secret of the client: + & %"


class NotInstalled(Exception):
    """Node.js, or the package, cannot be had."""


def install() -> None:
    """Have npm install the package, once for all processes that test.

    Raises:
        NotInstalled: there is no npm, or it cannot.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise NotInstalled
    INSTALLED.mkdir(parents=True, exist_ok=True)
    wanted = (HERE / "package.json").read_text(encoding="utf-8")
    with fasteners.InterProcessLock(INSTALLED / "lock"):
        known = INSTALLED / "package.json"
        is_there = known.exists() and known.read_text(encoding="utf-8") == wanted
        if not (is_there and (INSTALLED / "node_modules").exists()):
            known.write_text(wanted, encoding="utf-8")
            command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=INSTALLED, capture_output=True, check=False)
            if done.returncode:
                known.unlink()
                raise NotInstalled
        shutil.copy(HERE / "server.mjs", INSTALLED)


class IdentityProvider:
    """One that runs. People are who they say; `people` has their claims.

    Args:
        address: of the application, which it sends people back to.
        name: in the application's settings.
    """

    def __init__(self, folder: Path, address: str, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.file = folder / f"{name}.json"
        self.redirect = f"{address}/sign-in/with/{name}/callback"
        self.log = folder / f"{name}.log"
        self.know({})

    def know(self, people: dict[str, Any]) -> None:
        """Tell it the claims of people, by what they type."""
        self.file.write_text(json.dumps(people), encoding="utf-8")

    def start(self) -> None:
        """Start it, with a new key."""
        command = ["node", "server.mjs", str(self.port), self.redirect, str(self.file)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=INSTALLED, stdout=log, stderr=log)
        for _ in range(400):
            if self.log.read_text().count("listening") > self.log.read_text().count("stopped"):
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        with self.log.open("a") as log:
            log.write("stopped\n")

    @property
    def settings(self) -> dict[str, str]:
        """The application's settings for it."""
        values = {"ISSUER": self.issuer, "CLIENT_ID": "groundwork", "CLIENT_SECRET": SECRET}
        return {f"OIDC_{self.name.upper()}_{name}": value for name, value in values.items()}


@contextmanager
def running_provider(folder: Path, address: str, name: str) -> Iterator[IdentityProvider]:
    """Have one for the length of the block."""
    provider = IdentityProvider(folder, address, name)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
