"""Operations of the API as lines for a shell, made from their description."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from home.accounts.sessions import request_info
from home.web.people import CSRF_HEADER, services_of

JAR = "cookies.txt"
# Values for fields whose name says what they hold.
EXAMPLES = {
    "email": "ann@example.com",
    "password": "correct horse battery staple",
    "old": "correct horse battery staple",
    "new": "a better horse battery staple",
    "display_name": "Ann",
    "organization": "ACME",
}
JSON = "content-type: application/json"
HOST = re.compile(r"[\w.\-]+(:\d+)?|\[[\da-f:.]+\](:\d+)?", re.ASCII | re.IGNORECASE)


def base_of(scheme: str, host: str) -> str:
    """Return the beginning of addresses; a host that a shell could read something into is none."""
    return f"{scheme}://{host if HOST.fullmatch(host) else 'localhost'}"


def own_address(request: Request) -> str:
    """Return the address at which people reach the application: PUBLIC_URL, or as they came."""
    if (known := services_of(request).settings.public_url) is not None:
        return known
    scheme = "https" if request_info.get().is_secure else "http"
    return base_of(scheme, request.headers.get("host", ""))


def sign_in_lines(base: str) -> list[str]:
    """Return what the other lines need: a cookie in a file, and the token in a variable."""
    body = json.dumps({name: EXAMPLES[name] for name in ("email", "password")})
    take = """grep -o '"csrf_token":"[^"]*' | cut -d'"' -f4"""
    return [
        f"curl -sS -c {JAR} -H '{JSON}' -d '{body}' \"{base}/api/sign-in\"",
        f'CSRF_TOKEN=$(curl -sS -b {JAR} "{base}/api/me" | {take})',
    ]


def curl_line(document: Mapping[str, Any], base: str, path: str, method: str) -> str:
    """Return the line of an operation; parameters of its path are variables, such as `$ID`."""
    operation = document["paths"][path][method]
    parts = ["curl -sS"]
    if method != "get":
        parts.append(f"-X {method.upper()}")
    if operation["security"]:
        parts.append(f"-b {JAR} -c {JAR}")  # another password makes another session
    if any(each["name"] == CSRF_HEADER for each in operation["parameters"]):
        parts.append(f'-H "{CSRF_HEADER}: $CSRF_TOKEN"')
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = json.dumps(example(document, schema)).replace("'", "'\\''")
        parts.append(f"-H '{JSON}' -d '{body}'")
    address = re.sub(r"{(\w+)}", lambda found: f"${found[1].upper()}", path)
    return " ".join([*parts, f'"{base}{address}"'])


def example(document: Mapping[str, Any], schema: Mapping[str, Any], name: str = "") -> Any:
    """Return a value of a schema: of an object what is required, else what is set, else all."""
    if "$ref" in schema:
        found = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return example(document, found, name)
    if "anyOf" in schema:
        return example(document, schema["anyOf"][0], name)
    if "default" in schema and schema["default"] is not None:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            given = [each for each in fields if fields[each].get("default") is not None]
            shown = schema.get("required") or given or fields
            return {each: example(document, fields[each], each) for each in shown}
        case "array":
            return [example(document, schema["items"])]
        case "boolean":
            return False
        case "integer" | "number":
            return schema.get("minimum", 1)
    return EXAMPLES.get(name, "text")
