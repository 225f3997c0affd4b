"""The servers under measurement, each one process pinned to one core: the sidecar, nginx and Caddy with a constant answer."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from control_plane.cli.processes import free_port

SERVER_CORE = 0
CLIENT_CORE = 1 if (os.cpu_count() or 1) > 1 else 0
START_SECONDS = 30


class CannotMeasure(Exception):
    """Something that the bench needs is missing or failed; the message says what to do."""


def pinned(core: int, command: list[str]) -> list[str]:
    """The command, run on one core only."""
    return ["taskset", "--cpu-list", str(core), *command]


@contextlib.contextmanager
def running(command: list[str], ready: Callable[[], bool], log: Path, env: dict[str, str] | None = None) -> Iterator[int]:
    """Start `command` on the server core, wait until `ready()`; yields its pid (that of taskset's exec, so of the server)."""
    with (
        log.open("wb") as output,
        subprocess.Popen(pinned(SERVER_CORE, command), stdout=output, stderr=output, env=env) as process,
    ):
        try:
            _await(ready, process, log)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _await(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotMeasure(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether a GET of `url` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def sidecar(database_url: str, issuer: str, directory: Path) -> Iterator[tuple[int, int]]:
    """A ready sidecar with default settings on free ports; yields (pid, check port)."""
    port, ops = free_port(), free_port()
    env = {
        **os.environ,
        "CATALYST_DATABASE_URL": database_url,
        "CATALYST_SIDECAR_LISTEN": f"127.0.0.1:{port}",
        "CATALYST_SIDECAR_OPS_LISTEN": f"127.0.0.1:{ops}",
        "CATALYST_ISSUER": issuer,
    }
    ready = f"http://127.0.0.1:{ops}/readyz"
    with running([sys.executable, "-m", "sidecar"], lambda: answers(ready), directory / "sidecar.log", env) as pid:
        yield pid, port


@contextlib.contextmanager
def nginx(directory: Path) -> Iterator[tuple[int, int]]:
    """nginx with one worker and `return 200`; yields (pid of the worker, port)."""
    port = free_port()
    config = directory / "nginx.conf"
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log;"
        f"events {{ worker_connections 1024; }} http {{ access_log off; keepalive_requests 1000000000; {temporary}"
        f' server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }} }}'
    )
    command = ["nginx", "-e", str(directory / "nginx.log"), "-c", str(config)]
    with running(command, lambda: answers(f"http://127.0.0.1:{port}/"), directory / "nginx.out", None) as master:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        yield int(children[0]), port


@contextlib.contextmanager
def caddy(directory: Path) -> Iterator[tuple[int, int]]:
    """Caddy with `respond 200`, on one core (GOMAXPROCS=1); yields (pid, port)."""
    port = free_port()
    config = directory / "Caddyfile"
    # A site address without a host, so that any Host is answered.
    config.write_text(
        f"{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}}\nhttp://:{port} {{\n\tbind 127.0.0.1\n\trespond 200\n}}\n"
    )
    env = {**os.environ, "GOMAXPROCS": "1", "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    program = str(Path(sys.executable).parent / "caddy")
    command = [program, "run", "--adapter", "caddyfile", "--config", str(config)]
    with running(command, lambda: answers(f"http://127.0.0.1:{port}/"), directory / "caddy.log", env) as pid:
        yield pid, port


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """VmRSS of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise CannotMeasure(f"process {pid} has no VmRSS")
