"""The images: what their Dockerfiles promise, and that what they put together runs."""

import json
import re
import subprocess
import time
import tomllib
from pathlib import Path

import httpx2
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from control_plane.cli.processes import free_port
from control_plane.injector.authority import renew
from tests.acceptance.processes import environment
from tests.conftest import Database
from tests.images.image import ROOT, Assembled, locked, steps
from tests.injector.scene import settings

FILES = sorted((ROOT / "images").glob("*.Dockerfile"))
LOCKS = ("requirements-build.lock", "requirements-sidecar.lock", "requirements-control-plane.lock")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_last_stage_runs_as_nobody_and_only_takes_what_was_built(file: Path) -> None:
    found = steps(file)
    last = [step for step in found if step.stage == 1]
    assert {step.stage for step in found} == {-1, 0, 1}
    assert [step.text for step in last if step.name == "COPY"] == ["--from=builder /app /app"]
    assert {step.name for step in last} <= {"FROM", "COPY", "ENV", "WORKDIR", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert [step.text for step in last if step.name == "USER"] == ["65532:65532"]  # a number, or runAsNonRoot cannot tell
    bases = dict(step.text.split("=", 1) for step in found if step.stage == -1)
    assert [step.text for step in found if step.name == "FROM"] == ["${BUILDER} AS builder", "${RUNTIME}"]
    assert all(":" in base and not base.endswith(":latest") for base in bases.values())
    assert all(isinstance(json.loads(step.text), list) for step in last if step.name in {"ENTRYPOINT", "CMD"})


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_the_versions_that_everything_else_is_tested_with(lock: str) -> None:
    everything = locked("requirements.lock")
    assert {name: str(one.specifier) for name, one in locked(lock).items()}.items() <= {
        name: str(one.specifier) for name, one in everything.items()
    }.items()
    text = (ROOT / lock).read_text()
    assert len(re.findall(r"^\S+==", text, re.MULTILINE)) <= text.count("--hash=sha256:")


def test_locks_name_what_the_project_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    alone = {canonicalize_name(Requirement(one).name) for one in project["dependencies"]}
    assert alone <= set(locked("requirements-sidecar.lock"))
    plane = {canonicalize_name(Requirement(one).name) for one in project["optional-dependencies"]["control-plane"]}
    assert alone | plane <= set(locked("requirements-control-plane.lock"))


def answers(process: subprocess.Popen[bytes], url: str, log: Path) -> int:
    """The status of a URL, as soon as something answers there."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        try:
            if (status := httpx2.get(url, timeout=5).status_code) != 503:
                return status
        except httpx2.HTTPError:
            pass
        time.sleep(0.05)


def running(image: Assembled, log: Path, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        told = {**environment(**variables), **image.environment}
        return subprocess.Popen(image.command(*arguments), env=told, cwd="/", stdout=output, stderr=output)


def test_the_sidecar_runs_from_its_image(database: Database, tmp_path: Path) -> None:
    image = Assembled(ROOT / "images" / "sidecar.Dockerfile", tmp_path)
    assert image.importable("sidecar", "control_plane", "fastapi", "pydantic", "prometheus_client", "pip", "setuptools") == {
        "sidecar": True,
        **dict.fromkeys(("control_plane", "fastapi", "pydantic", "prometheus_client", "pip", "setuptools"), False),
    }
    ops = f"127.0.0.1:{free_port()}"
    listen = {"CATALYST_SIDECAR_LISTEN": f"127.0.0.1:{free_port()}", "CATALYST_SIDECAR_OPS_LISTEN": ops}
    process = running(image, tmp_path / "log", CATALYST_DATABASE_URL=database.url("catalyst_sidecar"), **listen)
    try:
        assert answers(process, f"http://{ops}/readyz", tmp_path / "log") == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)


def test_the_injector_and_the_rest_run_from_theirs(tmp_path: Path) -> None:
    image = Assembled(ROOT / "images" / "control-plane.Dockerfile", tmp_path)
    assert image.importable("control_plane", "sidecar", "pytest", "pip", "setuptools") == {
        "control_plane": True,
        "sidecar": True,
        **dict.fromkeys(("pytest", "pip", "setuptools"), False),
    }
    # CMD is the control plane, which says what it lacks.
    told = {**environment(), **image.environment}
    done = subprocess.run(image.command(), env=told, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "CATALYST_DATABASE_URL is not set" in done.stderr
    renew(tmp_path / "tls", ["localhost"])
    ops = f"127.0.0.1:{free_port()}"
    listen = {"CATALYST_INJECTOR_LISTEN": f"127.0.0.1:{free_port()}", "CATALYST_INJECTOR_OPS_LISTEN": ops}
    process = running(image, tmp_path / "log", "injector", **settings(tmp_path / "tls"), **listen)
    try:
        assert answers(process, f"http://{ops}/readyz", tmp_path / "log") == 200
    finally:
        process.kill()
        process.wait(20)
