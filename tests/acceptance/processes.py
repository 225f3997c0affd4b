"""Programs under test as their users start them: a process, its environment, its output."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from control_plane.cli.processes import free_port
from tests.acceptance.plane import SECRET_KEY


@dataclass
class Program:
    """A running program. `url` answers its users, `ops` its operators."""

    process: subprocess.Popen[bytes]
    output: Path
    url: str
    ops: str

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def lines(self) -> list[Any]:
        """What it logged, each line read as JSON."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]


def environment(**variables: str) -> dict[str, str]:
    """The environment of the tests, without any setting of ours but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}
    return {**kept, **variables}


@contextlib.contextmanager
def running(arguments: list[str], names: tuple[str, str], output: Path, **variables: str) -> Iterator[Program]:
    """Start `python -m …`, wait until its /readyz says so, kill it at the end. `names`: the variables of its listeners.

    They listen where `variables` say, or on ports that are free.
    """
    variables = {name: f"127.0.0.1:{free_port()}" for name in names} | variables
    listen, ops = (variables[name] for name in names)
    with output.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment(**variables), stdout=log, stderr=log)
    program = Program(process, output, f"http://{listen}", f"http://{ops}")
    try:
        _await_ready(program)
        yield program
    finally:
        process.kill()
        process.wait(20)


def control_plane(database_url: str, output: Path, **variables: str) -> contextlib.AbstractContextManager[Program]:
    names = ("CATALYST_CONTROL_LISTEN", "CATALYST_CONTROL_OPS_LISTEN")
    variables = {"CATALYST_DATABASE_URL": database_url, "CATALYST_SECRET_KEY": SECRET_KEY, **variables}
    return running(["control_plane", "control-plane"], names, output, **variables)


def sidecar(database_url: str, output: Path, **variables: str) -> contextlib.AbstractContextManager[Program]:
    names = ("CATALYST_SIDECAR_LISTEN", "CATALYST_SIDECAR_OPS_LISTEN")
    return running(["sidecar"], names, output, CATALYST_DATABASE_URL=database_url, **variables)


def _await_ready(program: Program, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert program.process.poll() is None, program.output.read_text()
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{program.ops}/readyz", timeout=1).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"not ready after {seconds} s: {program.output.read_text()}")
