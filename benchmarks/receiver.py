"""Take webhooks and count them, as cheaply as Python can: `python -m benchmarks.receiver`.

A GET is answered with how many came, and the seconds between the first and the last.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time

import uvloop

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)

times: list[float] = []


class Receiver(asyncio.Protocol):
    """One connection, kept for as long as the other side likes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        head, end, rest = self.waiting.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        if not end or len(rest) < length:
            return
        self.waiting = rest[length:]
        self.transport.write(_counts() if head.startswith(b"GET") else TAKEN)
        if head.startswith(b"POST"):
            times.append(time.perf_counter())


def _counts() -> bytes:
    seconds = times[-1] - times[0] if times else 0
    body = json.dumps({"count": len(times), "seconds": seconds})
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
