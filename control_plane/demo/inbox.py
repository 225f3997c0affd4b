"""The demo's receiver of webhooks: it believes what the public library proves, once, and can go away and come back."""

import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from control_plane.cli.processes import free_port

_POLL_SECONDS: Final = 0.002
TAKEN: Final = "taken"
KNOWN: Final = "known already"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was believed. `at`: seconds since 1970."""

    headers: dict[str, str]
    body: bytes
    event: Any
    at: float


class Inbox:
    """Listens on a port of its own from `open()` to `close()`. `secret`: what its webhook was made with."""

    def __init__(self) -> None:
        self.port = free_port()
        self.secret = ""
        self.deliveries: list[Delivery] = []
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it wants to be told."""
        return f"http://127.0.0.1:{self.port}/hooks"

    def open(self) -> None:
        """Listen, in a thread."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": _POLL_SECONDS}, daemon=True).start()

    def close(self) -> None:
        """Be gone: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait_for(self, count: int, seconds: float) -> list[Delivery]:
        """All that was believed, as soon as there is so much of it or the time is over."""
        deadline = time.monotonic() + seconds
        while len(self.deliveries) < count and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return list(self.deliveries)

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        """The answer to a request."""
        try:
            event = Webhook(self.secret).verify(body, headers)
        except (WebhookVerificationError, ValueError):
            return HTTPStatus.UNAUTHORIZED, "not signed by whom we expect"
        if any(known.headers["webhook-id"] == headers["webhook-id"] for known in self.deliveries):
            return HTTPStatus.OK, KNOWN
        self.deliveries.append(Delivery(headers, body, event, time.time()))
        return HTTPStatus.OK, TAKEN


def _handler(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, said = inbox.take(headers, self.rfile.read(int(headers.get("content-length", 0))))
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_: object) -> None:
            """The tour says what there is to say."""

    return Handler
