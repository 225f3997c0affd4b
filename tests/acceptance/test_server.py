"""The control plane as a process: how it starts, stops, and what it says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from control_plane.cli.processes import free_port
from tests.acceptance.plane import SECRET_KEY
from tests.acceptance.processes import control_plane, environment

COMMAND = [sys.executable, "-m", "control_plane", "control-plane"]


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND, env=environment(**variables), capture_output=True, text=True, timeout=40, check=False)


def test_it_serves_drains_and_ends_well(database: Any, tmp_path: Path) -> None:
    with control_plane(database.url("catalyst_control"), tmp_path / "log") as program:
        assert httpx2.get(f"{program.url}/v1/orgs").status_code == 401
        assert httpx2.get(f"{program.ops}/healthz").json() == {"status": "ok"}
        assert "http_requests_total" in httpx2.get(f"{program.ops}/metrics").text
        assert httpx2.get(f"{program.url}/metrics").status_code == 404
        assert len(httpx2.get(f"{program.url}/.well-known/jwks.json").json()["keys"]) == 2
        assert program.stop() == 0
        lines = program.lines()
    for line in lines:
        assert {"timestamp", "level", "message", "service"} <= line.keys()
        assert line["service"] == "catalyst-control-plane"
    requests = [line for line in lines if line["message"] == "request"]
    assert [(line["route"], line["status"]) for line in requests][:1] == [("/v1/orgs", 401)]
    assert all(len(line["trace_id"]) == 32 for line in requests)
    assert lines[-1]["message"] == "stopped"


def test_it_follows_the_trace_of_its_caller(database: Any, tmp_path: Path) -> None:
    with control_plane(database.url("catalyst_control"), tmp_path / "log") as program:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        httpx2.get(f"{program.url}/docs", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        httpx2.get(f"{program.url}/docs", headers={"traceparent": "garbage"})
        program.stop()
        ids = [line["trace_id"] for line in program.lines() if line["message"] == "request"]
    assert ids[0] == trace
    assert len(ids[1]) == 32


def test_every_wrong_setting_is_told_at_once() -> None:
    ended = start(CATALYST_SECRET_KEY="hunter2hunter2", CATALYST_CONTROL_LISTEN="nowhere", CATALYST_LOG_LEVEL="loud")
    assert ended.returncode == 2
    for name in ("CATALYST_DATABASE_URL", "CATALYST_SECRET_KEY", "CATALYST_CONTROL_LISTEN", "CATALYST_LOG_LEVEL"):
        assert name in ended.stderr
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_keeps_it_from_starting_is_told_in_a_line(empty_database: Any, database: Any) -> None:
    ports = {"CATALYST_CONTROL_LISTEN": f"127.0.0.1:{free_port()}", "CATALYST_CONTROL_OPS_LISTEN": f"127.0.0.1:{free_port()}"}
    ended = start(CATALYST_DATABASE_URL=empty_database.admin_url, CATALYST_SECRET_KEY=SECRET_KEY, **ports)
    assert ended.returncode == 2
    assert "catalyst migrate" in ended.stderr
    assert "Traceback" not in ended.stderr

    taken = {**ports, "CATALYST_CONTROL_OPS_LISTEN": ports["CATALYST_CONTROL_LISTEN"]}
    ended = start(CATALYST_DATABASE_URL=database.url("catalyst_control"), CATALYST_SECRET_KEY=SECRET_KEY, **taken)
    assert ended.returncode == 2
    assert f"Cannot listen on {ports['CATALYST_CONTROL_LISTEN']}" in ended.stderr
