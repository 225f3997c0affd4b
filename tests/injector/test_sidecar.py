"""The real sidecar, started with what was injected, and asked by the kubelet's probes."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

from control_plane.cli.processes import free_port
from tests.acceptance.processes import environment
from tests.conftest import Database
from tests.injector.scene import Injector, patched, sidecar
from tests.injector.test_pods import env


def probed(container: Any, name: str) -> int:
    """The status that the kubelet would see."""
    probe = container[name]["httpGet"]
    try:
        return httpx2.get(
            f"http://127.0.0.1:{probe['port']}{probe['path']}", timeout=container[name]["timeoutSeconds"]
        ).status_code
    except httpx2.HTTPError:
        return 0


def test_the_sidecar_runs_as_injected(native: Injector, database: Database, tmp_path: Path) -> None:
    ports = {"catalyst-auth/port": str(free_port()), "catalyst-auth/ops-port": str(free_port())}
    pod = {"metadata": {"annotations": ports}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
    container = sidecar(patched(pod, native.ask(pod)))
    # In a pod it listens for the kubelet on the pod's own address; here nobody else shall reach it.
    variables = {name: text.replace("0.0.0.0", "127.0.0.1") for name, text in env(container).items()}
    variables["CATALYST_DATABASE_URL"] = database.url("catalyst_sidecar")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "sidecar"], env=environment(**variables), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + container["startupProbe"]["failureThreshold"]
        while probed(container, "startupProbe") != 200:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [probed(container, name) for name in ("readinessProbe", "livenessProbe")] == [200, 200]
        answer = httpx2.get(f"http://127.0.0.1:{ports['catalyst-auth/port']}/forward-auth/traefik")
        assert (answer.status_code, answer.headers["x-forward-auth-error"]) == (400, "malformed_request")
    finally:
        process.kill()
        process.wait(20)
