"""How long checks take at a sidecar while something else goes on: one connection, one question after the other."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Checks:
    """`microseconds` of each check; how long they were asked for; answers that were no allow."""

    microseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    refused: int = 0

    @property
    def per_second(self) -> float:
        """Throughput of the one connection."""
        return len(self.microseconds) / self.seconds


@contextmanager
def asking(port: int, request: bytes) -> Iterator[Checks]:
    """Ask as fast as answers come, until the block ends."""
    checks, enough = Checks(), threading.Event()
    thread = threading.Thread(target=_ask, args=(port, request, checks, enough))
    began = time.perf_counter()
    thread.start()
    try:
        yield checks
    finally:
        enough.set()
        thread.join(30)
        checks.seconds = time.perf_counter() - began


def _ask(port: int, request: bytes, checks: Checks, enough: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not enough.is_set():
            began = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(65536)
            while b"\r\n\r\n" not in answer:
                received = connection.recv(65536)
                if not received:
                    raise ConnectionError("the sidecar closed the connection")
                answer += received
            checks.microseconds.append((time.perf_counter() - began) * 1_000_000)
            checks.refused += not answer.startswith(b"HTTP/1.1 200")
