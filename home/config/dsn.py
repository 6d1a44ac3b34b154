"""A database URL, as any driver writes it, translated into arguments of `asyncpg.connect`."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from audit.errors import GroundworkError

SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SSL_FLAGS = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
SESSION_KINDS = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
ENCODE_HINT = "percent-encode special characters in user and password: # %23, / %2F, ? %3F"


class DsnError(GroundworkError):
    """A database URL that cannot be used; the message never holds a part of it."""


@dataclass(frozen=True)
class Database:
    """args: keyword arguments of `asyncpg.connect`; ignored: names of parameters left out."""

    args: dict[str, Any] = field(repr=False)
    ignored: tuple[str, ...] = ()


def from_parts(parts: Mapping[str, Any]) -> Database:
    """Take host, port, database, user and password; absent ones get the usual defaults."""
    user = parts.get("user") or "postgres"
    hosts = (parts.get("host") or "localhost").split(",")
    return Database(
        {
            **_places(hosts, [parts.get("port") or 5432]),
            "user": user,
            "password": parts.get("password"),
            "database": parts.get("database") or user,
        }
    )


def from_url(url: str, wanted: str = "primary") -> Database:
    """Translate a URL of libpq, Prisma, SQLAlchemy or a managed service.

    Several hosts stay as libpq has them, in one text with commas, as do their ports.

    Parameters asyncpg knows otherwise are translated, the rest are ignored and named.
    TLS modes mean what they mean to libpq:
    https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS

    Args:
        wanted: which of several hosts, if `target_session_attrs` does not say it.

    Raises:
        DsnError: with what to mend.
    """
    parsed = _split(url.strip())
    query = dict(parse_qsl(parsed.query))
    user, _, password = parsed.netloc.rpartition("@")[0].partition(":")
    args: dict[str, Any] = {
        **_hosts_and_ports(parsed.netloc.rpartition("@")[2], query),
        "user": unquote(user) or query.pop("user", "postgres"),
        "password": unquote(password) or query.pop("password", None),
    }
    args["database"] = unquote(parsed.path[1:]) or query.pop("dbname", args["user"])
    settings = {name: query.pop(name) for name in ("application_name", "options") if name in query}
    if settings:
        args["server_settings"] = settings
    if "target_session_attrs" in query:
        args["target_session_attrs"] = query.pop("target_session_attrs")
        if args["target_session_attrs"] not in SESSION_KINDS:
            raise DsnError("target_session_attrs must be one of " + ", ".join(SESSION_KINDS))
    elif "," in args["host"]:
        args["target_session_attrs"] = wanted
    if not all(host.startswith("/") for host in args["host"].split(",")):
        args["ssl"] = _tls(query.pop)
    return Database(args, tuple(sorted(query)))


def _split(url: str) -> Any:
    if re.search(r"[\x00-\x1f\x7f]|%00", url):  # urlsplit drops some of them without a word
        raise DsnError("holds control characters; " + ENCODE_HINT)
    if url.partition("://")[0].lower() not in SCHEMES:
        raise DsnError("must begin with postgresql://")
    with suppress(ValueError):  # its message would show the password
        unquote(url, errors="strict")
        parsed = urlsplit(url)
        if "#" not in url and "@" not in parsed.path and "@" not in parsed.query:
            return parsed
    raise DsnError(ENCODE_HINT)


def _hosts_and_ports(location: str, query: dict[str, str]) -> dict[str, str | int]:
    """Return `host` and `port`; the query has them where the location has not."""
    found = [_host_and_port(each) for each in location.split(",")]
    hosts, ports = [host for host, _ in found], [port for _, port in found]
    if hosts == [""]:
        hosts = query.pop("host", "localhost").split(",")
    if "port" in query:
        ports = [_port(each) for each in query.pop("port").split(",")]
    return _places(hosts, ports)


def _places(hosts: list[str], ports: list[int]) -> dict[str, str | int]:
    if not all(hosts):
        raise DsnError("names no host before or after a comma")
    if len(hosts) == 1 == len(ports):
        return {"host": hosts[0], "port": ports[0]}
    if len(ports) == 1:
        ports = ports * len(hosts)
    if len(hosts) != len(ports):
        raise DsnError("needs one port, or one for each host")
    return {"host": ",".join(hosts), "port": ",".join(map(str, ports))}


def _host_and_port(location: str) -> tuple[str, int]:
    if location.startswith("["):  # IPv6
        host, _, rest = location[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = location.partition(":")
    return unquote(host), _port(port) if port else 5432


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise DsnError("the port must be a number from 1 to 65535 (" + ENCODE_HINT + ")")
    return int(text)


def _tls(take: Callable[..., Any]) -> ssl.SSLContext | str:
    flag = take("ssl", "prefer")  # how Node's drivers and SQLAlchemy spell it
    mode = take("sslmode", SSL_FLAGS.get(flag, flag))
    root, certificate, key = (take(name, None) for name in ("sslrootcert", "sslcert", "sslkey"))
    key_password = take("sslpassword", "")  # never None: OpenSSL would ask at the terminal
    if mode not in SSL_MODES:
        raise DsnError("sslmode must be one of " + ", ".join(SSL_MODES))
    if root == "system":  # libpq: system roots are only allowed with full verification
        mode, root = "verify-full", None
    elif root and mode == "require":  # libpq: a root certificate turns require into verify-ca
        mode = "verify-ca"
    if mode == "disable" or not (mode.startswith("verify") or certificate):
        return str(mode)
    try:
        context = ssl.create_default_context(cafile=root)
        if certificate:
            context.load_cert_chain(certificate, key, key_password)
    except (OSError, ssl.SSLError):
        raise DsnError("a file named by sslrootcert, sslcert or sslkey cannot be used") from None
    context.check_hostname = mode == "verify-full"
    if not mode.startswith("verify"):
        context.verify_mode = ssl.CERT_NONE
    return context
