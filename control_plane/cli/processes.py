"""Programs that `catalyst up` and the demo start: watched, logged to files, and ended when their starter ends."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, Self

from control_plane.errors import OperatorError

_PR_SET_PDEATHSIG: Final = 1
_POLL_SECONDS: Final = 0.02
_TAIL_BYTES: Final = 2000
_PORTS: Final = (10_000, 32_768)

_chance: Final = random.SystemRandom()
_given: Final[set[int]] = set()


class Process:
    """A running program with a log file. Its own process group: a Ctrl-C at the terminal reaches only the starter."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str], directory: Path | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = log
        self._begin = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environ),
                cwd=directory,
                start_new_session=True,
                # Safe: it runs one system call, and starters have no threads yet.
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """What the program ended with; None while it runs."""
        return self._popen.poll()

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> Self:
        """Return as soon as `ready()`; OperatorError with the end of the log where the program ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.exit_code is not None:
                raise OperatorError(f"{self.name} ended with code {self.exit_code}. The end of {self.log}:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise OperatorError(f"{self.name} was not ready after {seconds:g} s. The end of {self.log}:\n{self._tail()}")
            time.sleep(_POLL_SECONDS)
        return self

    def stop(self, seconds: float = 12) -> None:
        """SIGTERM, and SIGKILL to whoever is left of its group after `seconds`."""
        if self.exit_code is None:
            self._popen.terminate()
            try:
                self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._popen.wait()

    def _tail(self) -> str:
        return self.log.read_bytes()[self._begin :][-_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"


def _end_with_parent() -> None:
    """In the child, before exec: SIGTERM when the starter dies, even by kill -9 (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on right now; never the same one twice.

    Not one that the kernel would choose (32768 and up on Linux, ip(7)): it gives those to outgoing connections, and the one that
    was just found free could be taken before its program listens.
    """
    while True:
        port = _chance.randrange(*_PORTS)
        if port not in _given and not _taken(port):
            _given.add(port)
            return port


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def answers(address: str, path: str = "/readyz") -> bool:
    """Whether `GET path` at `host:port` or `unix:/path` is answered with 200."""
    try:
        return ask(address, path)[0] == HTTPStatus.OK
    except (OSError, HTTPException):
        return False


def ask(address: str, path: str) -> tuple[int, bytes]:
    """Status and body of `GET path` at `host:port` or `unix:/path`. Raises OSError, HTTPException."""
    connection = HTTPConnection("127.0.0.1", timeout=1)
    try:
        connection.sock = _connect(address)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def accepts(address: str) -> bool:
    """Whether somebody listens at `host:port` or `unix:/path`."""
    try:
        _connect(address).close()
    except OSError:
        return False
    return True


def _connect(address: str) -> socket.socket:
    """A connection to `host:port` or `unix:/path`. Raises OSError."""
    if not address.startswith("unix:"):
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=1)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(1)
        connection.connect(address.removeprefix("unix:"))
    except OSError:
        connection.close()
        raise
    return connection
