"""docs/quickstart.md, step by step, as it is written: only ports and the database's URL are put in."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from control_plane.cli import processes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "quickstart.md"
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the embedded PostgreSQL can be reached in, whoever it runs as."""
    with tempfile.TemporaryDirectory(prefix="catalyst-quickstart-") as name:
        yield Path(name)


@contextlib.contextmanager
def everything_up(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """`catalyst up` on free ports; yields the URLs it printed."""
    environ = clean_environment() | dict(settings or {})
    command = [str(PROGRAMS / "catalyst"), "up", "--json", "--free-ports"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}


def free_port() -> str:
    return str(processes.free_port())


def script(urls: dict[str, str]) -> str:
    """The page's shell blocks after the first, which starts everything."""
    _, *blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    text = "\n".join(blocks)
    put_in = {
        "'postgresql://…'    # as printed": f"'{urls['database']}'",
        "127.0.0.1:8080": urls["control"].removeprefix("http://"),
        "127.0.0.1:8787": urls["sidecar"].removeprefix("http://"),
        "$PWD/.venv/bin": str(PROGRAMS),
        "127.0.0.1:8000": f"127.0.0.1:{free_port()}",
        "3000": free_port(),
    }
    for written, used in put_in.items():
        text = text.replace(written, used)
    return f"set -euo pipefail\ntrap 'jobs -p | xargs --no-run-if-empty kill' EXIT\n{text}"


@pytest.mark.timeout(120)
def test_quickstart(folder: Path) -> None:
    with everything_up(folder) as urls:
        # Where the page relies on default addresses, and the test has others.
        env = clean_environment() | {
            "CATALYST_URL": urls["control"],
            "CATALYST_SIDECAR_LISTEN": urls["sidecar"].removeprefix("http://"),
        }
        done = subprocess.run(
            ["bash", "-c", script(urls)], cwd=folder, capture_output=True, text=True, check=False, timeout=90, env=env
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"HTTP/1\.1 (\d{3}) ", done.stdout) == ["401", "200", "401"], done.stdout + done.stderr
    assert re.findall(r"^x-forward-auth-error: (\w+)", done.stdout, re.MULTILINE | re.IGNORECASE) == [
        "missing_credentials",
        "revoked_session",
    ]
    assert "order 1" in done.stdout


def test_the_proxy_is_started_as_its_configuration_says() -> None:
    command = [str(PROGRAMS / "catalyst"), "proxy-config", "traefik", "--application", "127.0.0.1:3000"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment()).stdout
    said = next(line for line in printed.splitlines() if line.startswith("#   traefik "))
    written = re.search(r"^traefik (?:.*\\\n)*.*(?= &$)", PAGE.read_text(), re.MULTILINE)
    assert written is not None
    assert written[0].replace("\\\n", "").split() == said.removeprefix("#").split()
