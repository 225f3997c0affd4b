"""A proxy with the demo's application behind it, as a client meets it."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from control_plane.demo.world import HOST
from sidecar.contract import AUTH_ERROR, SESSION_COOKIE

_TIMEOUT_SECONDS: Final = 5.0

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got. `seconds`: from sending the request to having the whole answer; `at`: when that was (epoch)."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    at: float

    @property
    def reason(self) -> str:
        """The code of a refusal; empty where the proxy refused by itself or the request passed."""
        return self.headers.get(AUTH_ERROR, "")

    @property
    def received(self) -> dict[str, str]:
        """The headers as the application received them; empty where it was not reached. A header sent twice is joined."""
        if self.status != HTTPStatus.OK or not self.headers.get("content-type", "").startswith("application/json"):
            return {}
        seen: dict[str, Any] = json.loads(self.body)
        lines: dict[str, str] = {}
        for name, value in seen["headers"]:
            lines[name] = f"{lines[name]}, {value}" if name in lines else value
        return lines


class Gate:
    """One keep-alive connection to one proxy. Not for several threads."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self._connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)

    def another(self) -> "Gate":
        """The same gate on a connection of its own."""
        return Gate(self.name, self.port)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, method: str = "GET", path: str = "/orders/42", headers: Headers = ()) -> Answer:
        """One request. Status 0 where there was no answer: nothing passed then either."""
        started = time.perf_counter()
        try:
            self._connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in (("Host", HOST), *headers):
                self._connection.putheader(name, value)
            self._connection.endheaders()
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException):
            self._connection.close()
            return Answer(0, {}, b"", time.perf_counter() - started, time.time())
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, body, time.perf_counter() - started, time.time())


def cookie(token: str) -> tuple[str, str]:
    """A browser's session."""
    return ("Cookie", f"{SESSION_COOKIE}={token}")
