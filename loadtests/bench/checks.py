"""Warm checks per second on one core, beside servers that answer the same requests with a constant.

The client (`generator.c`) has a core of its own. Servers take turns, A B C A B C, so that a slow minute of the machine hits all.
"""

import json
import shutil
import socket
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.servers import CLIENT_CORE, CannotMeasure, cpu_seconds, pinned
from loadtests.bench.world import Person

CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the generator against one server. Latencies in microseconds, processor time as a share of one core."""

    per_second: float
    p50: int
    p99: int
    server_share: float
    client_share: float

    @property
    def per_core_second(self) -> float:
        """Requests for each second of processor time that the server got."""
        return self.per_second / self.server_share


def build_generator(directory: Path) -> Path:
    """Compile the load generator."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotMeasure("the load generator is C: install a compiler (Debian: apt-get install gcc libc6-dev)")
    program = directory / "generator"
    source = Path(__file__).with_name("generator.c")
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return program


class Client:
    """Sends the prepared requests to any port."""

    def __init__(self, program: Path, people: list[Person], directory: Path) -> None:
        self.program = program
        self.requests = directory / "requests.bin"
        self.requests.write_bytes(b"".join(person.request() + b"\0" for person in people))

    def send(self, port: int, pid: int, seconds: float) -> Run:
        """Load the server on `port` (process `pid`) for `seconds`; 0: each request once. Any answer but 200 is an error."""
        command = [str(self.program), str(port), str(self.requests), str(CONNECTIONS), str(seconds)]
        before = cpu_seconds(pid)
        done = subprocess.run(pinned(CLIENT_CORE, command), capture_output=True, text=True, check=False)
        used = cpu_seconds(pid) - before
        if done.returncode:
            raise CannotMeasure(f"the generator failed: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        if result["refused"]:
            raise CannotMeasure(f"{result['refused']} of {result['answered']} answers were not 200")
        return Run(
            per_second=result["answered"] / result["seconds"],
            p50=result["p50_us"],
            p99=result["p99_us"],
            server_share=used / result["seconds"],
            client_share=result["cpu_seconds"] / result["seconds"],
        )


def ask(port: int, request: bytes) -> tuple[int, dict[str, str]]:
    """One check on a connection of its own: the status and the answer's headers."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            received = connection.recv(65536)
            if not received:
                raise CannotMeasure("the sidecar closed the connection instead of answering")
            answer += received
    status, *lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return int(status.split()[1]), headers


def prove(port: int, people: list[Person]) -> None:
    """The answers are real: the right person's name for each token, and a refusal where the path is changed."""
    for person in people:
        status, headers = ask(port, person.request())
        if status != 200 or headers["x-user-sub"] != str(person.profile) or headers["x-user-entitlements"] != "orders:read":
            raise CannotMeasure(f"a wrong answer: {status} {headers}")
    status, headers = ask(port, people[0].request().replace(b"/api/v1/orders/", b"/api/v1/invoices/"))
    if status != 403:
        raise CannotMeasure(f"a path that no rule allows was answered {status} {headers}")


def alternate(client: Client, servers: dict[str, tuple[int, int]], rounds: int, seconds: float) -> dict[str, list[Run]]:
    """`rounds` runs of each server (name -> pid, port), taking turns, after one round of every request that is not counted."""
    runs: dict[str, list[Run]] = {name: [] for name in servers}
    for pid, port in servers.values():
        client.send(port, pid, 0)
    for _ in range(rounds):
        for name, (pid, port) in servers.items():
            runs[name].append(client.send(port, pid, seconds))
    return runs


def median(runs: list[Run], value: Callable[[Run], float]) -> float:
    """The median of one value over the runs."""
    return statistics.median(value(run) for run in runs)
