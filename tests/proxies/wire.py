"""The network as the tests see it: raw requests, an application that records what reaches it, a tap on a connection."""

import base64
import hashlib
import json
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field

TIMEOUT = 10.0


@dataclass
class Answer:
    """What came back: status 0 where the connection was closed without an answer. Header names are lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    head: bytes = b""

    @property
    def reason(self) -> str:
        return self.headers.get("x-forward-auth-error", "")


@dataclass
class Request:
    """A request as the application received it, byte for byte: request line, header lines in order, body."""

    method: str
    target: str
    lines: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header, read as CGI and WSGI applications read names: case and punctuation do not count."""
        return [value for found, value in self.lines if _plain(found) == _plain(name)]

    def one(self, name: str) -> str:
        """The header's value; empty where it is absent or empty."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else ""


def _plain(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name.lower())


def head(method: str, target: str | bytes, *headers: tuple[str, str], host: str | None = "orders.example.com") -> bytes:
    """A request's head, exactly as written here."""
    raw = target.encode() if isinstance(target, str) else target
    lines = ([("Host", host)] if host is not None else []) + list(headers)
    return method.encode() + b" " + raw + b" HTTP/1.1\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in lines) + b"\r\n"


def send(port: int, raw: bytes, timeout: float = TIMEOUT) -> Answer:
    """Send bytes to a loopback port and read one answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.settimeout(timeout)
        with suppress(ConnectionError):
            connection.sendall(raw)
            return read_answer(connection, bodiless=raw.startswith(b"HEAD "))
    return Answer()


def read_answer(connection: socket.socket, *, bodiless: bool = False) -> Answer:
    """Read one answer from a connection."""
    received = bytearray()
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            return Answer(head=bytes(received))
        received += chunk
    top, _, rest = bytes(received).partition(b"\r\n\r\n")
    status, headers = _parse(top)
    if status == 100:
        rest, top = _more(connection, rest)
        status, headers = _parse(top)
    body = b"" if bodiless or status in {101, 204, 304} else _body(connection, headers, rest)
    return Answer(status, headers, body, top)


def _more(connection: socket.socket, rest: bytes) -> tuple[bytes, bytes]:
    while b"\r\n\r\n" not in rest:
        rest += connection.recv(65536)
    top, _, rest = rest.partition(b"\r\n\r\n")
    return rest, top


def _parse(top: bytes) -> tuple[int, dict[str, str]]:
    lines = top.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:])
    return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _body(connection: socket.socket, headers: dict[str, str], body: bytes) -> bytes:
    length = int(headers.get("content-length", "-1"))
    chunked = "chunked" in headers.get("transfer-encoding", "")
    while (len(body) < length) if length >= 0 else not (chunked and body.endswith(b"0\r\n\r\n")):
        chunk = connection.recv(65536)
        if not chunk:
            break
        body += chunk
    return body


class Server:
    """Listens on a free port and serves from a thread, until `close`. Attributes of a subclass must stand before it starts."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close the listener for good: one that a thread waits on would still take a connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        raise NotImplementedError


class Recorder(Server):
    """An application that answers 200 to everything, keeps what it received, and echoes in capitals after a WebSocket upgrade."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        super().__init__()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            stream = connection.makefile("rb")
            while request := _read_request(stream):
                self.requests.append(request)
                if request.one("upgrade"):
                    connection.sendall(_switching(request))
                    while data := connection.recv(1000):
                        connection.sendall(data.upper())
                    return
                body = json.dumps({"target": request.target}).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def _switching(request: Request) -> bytes:
    """The answer to an upgrade; to a WebSocket's with the proof of RFC 6455 section 4.2.2, which HAProxy looks for."""
    proof = hashlib.sha1(f"{request.one('sec-websocket-key')}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    accept = base64.b64encode(proof).decode()
    head = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {request.one('upgrade')}\r\n"
    return f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()


def _read_request(stream) -> Request | None:
    first = stream.readline().decode("latin-1").rstrip("\r\n")
    if not first:
        return None
    method, _, rest = first.partition(" ")
    lines = []
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        lines.append((name, value.strip()))
    request = Request(method, rest.rpartition(" ")[0], lines, b"")
    if request.one("transfer-encoding"):
        while size := int(stream.readline(), 16):
            request.body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        request.body = stream.read(int(request.one("content-length") or 0))
    return request


class Tap(Server):
    """Passes bytes between a proxy and whoever stands at `target`, and keeps what the proxy sent."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.sent = bytearray()
        self.connections = 0
        super().__init__()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near, socket.create_connection(self.target) as far:
            back = threading.Thread(target=self._pass, args=(far, near, False), daemon=True)
            back.start()
            self._pass(near, far, keep=True)
            back.join()

    def _pass(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if keep:
                    self.sent += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


class Impostor(Server):
    """Stands where a sidecar should, answers every request with the bytes in `raw` and hangs up; `asked` is the last one."""

    def __init__(self) -> None:
        self.raw = b""
        self.asked = b""
        super().__init__()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self.asked = connection.recv(65536)
                    connection.sendall(self.raw)
