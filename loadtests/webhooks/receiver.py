"""The other side: one listener for all endpoints, as cheap as it can be, that knows which events came where, when and how often.

    python -m loadtests.webhooks.receiver '{"port": 8090, "events": 100000, "behaviours": ["prompt", "slow"], "slow_seconds": 0.5}'

POST /<number of the endpoint> is a delivery. GET / says of each endpoint how many different events and how many requests have come, and when the last;
GET /report/<file> writes everything that is known there. It reads of a delivery its path, its `webhook-id` and a checksum of its
body: whether signatures are good is a matter of other tests, and would cost more here than all the rest.
"""

import asyncio
import json
import pickle
import sys
from pathlib import Path
from typing import cast
from zlib import crc32

import uvloop

from loadtests.webhooks.arrivals import Report, report_for

_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 7\r\n\r\nno luck"


class Listener(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, report: Report, behaviours: list[str], slow_seconds: float) -> None:
        self.report, self.behaviours, self.slow_seconds = report, behaviours, slow_seconds
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self.held + data if self.held else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end].lower() + b"\r\n"
            after = end + 4 + int(_value(head, b"\r\ncontent-length:") or 0)
            if len(data) < after:
                break
            if head.startswith(b"post /"):
                self.take(head, crc32(data[end + 4 : after]))
            else:
                self.tell(data.split(b" ", 2)[1].decode())
            data = data[after:]
        self.held = data

    def take(self, head: bytes, checksum: int) -> None:
        """A delivery: note it, answer as this endpoint does."""
        endpoint = int(head[6 : head.index(b" ", 6)])
        self.report.note(endpoint, _value(head, b"\r\nwebhook-id:"), checksum)
        match self.behaviours[endpoint]:
            case "prompt":
                self.transport.write(_TAKEN)
            case "slow":
                asyncio.get_running_loop().call_later(self.slow_seconds, self.transport.write, _TAKEN)
            case "failing":
                self.transport.write(_FAILED)

    def tell(self, path: str) -> None:
        """Say what has come so far."""
        if path.startswith("/report/"):
            Path(path.removeprefix("/report")).write_bytes(pickle.dumps(self.report))
        body = json.dumps([(each.different, each.requests, each.latest) for each in self.report.endpoints]).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        self.transport.close()


def _value(head: bytes, name: bytes) -> bytes:
    begin = head.find(name)
    return b"" if begin < 0 else head[begin + len(name) : head.index(b"\r\n", begin + 2)].strip()


async def serve(port: int, events: int, behaviours: list[str], slow_seconds: float) -> None:
    """Until it is ended."""
    report = report_for(events, len(behaviours))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Listener(report, behaviours, slow_seconds), "127.0.0.1", port, backlog=1000)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(**json.loads(sys.argv[1])))
