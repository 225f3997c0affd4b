"""`catalyst fleet`: what it says of sidecars that are live, late and gone, once and again and again."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from control_plane.cli import app
from control_plane.cli.api import Api as Calls
from control_plane.cli.fleet import _moments
from control_plane.cli.up_view import Rate, total
from control_plane.cli.watching import ago, bar, span, sparkline
from tests.acceptance.plane import Api, Plane
from tests.acceptance.processes import environment

SIDECARS = [f"{letter * 8}-0000-4000-8000-000000000000" for letter in "abc"]


@pytest.fixture
def who(own_plane: Plane) -> dict[str, str]:
    return {"CATALYST_URL": own_plane.url, "CATALYST_API_KEY": own_plane.administrator.api_key}


@pytest.fixture
def fleet(own_plane: Plane, own_admin: Api) -> int:
    """One of each state; the head revision."""
    head = own_admin.revision()
    for sidecar, behind, lag, age in zip(SIDECARS, (0, 1, head), (0.0004, 0.35, 4.2), (1, 30, 600), strict=True):
        jwk = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": sidecar})
        values = (sidecar, ["orders", "shop"], head - behind, lag, jwk)
        own_plane.execute("SELECT replica.report(%s, '0.1.0', %s, %s, %s, %s::jsonb)", *values)
        own_plane.execute("UPDATE catalyst.sidecars SET seen_at = now() - make_interval(secs => %s) WHERE id = %s", age, sidecar)
    return head


def run(who: dict[str, str], *arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["fleet", *arguments], env=who)
    assert done.exit_code == status, done.output
    return done.output


def test_each_sidecar_stands_there_with_its_state_and_how_far_it_is(who: dict[str, str], fleet: int) -> None:
    title, _, _, *rows = [line for line in run(who).splitlines() if line.strip()]
    assert re.match(rf"revision {fleet}   1 live   1 late   1 gone   \d\d:\d\d:\d\d UTC", title)
    live, late, gone = rows
    assert re.search(rf"aaaaaaaa +● live +0\.1\.0 +orders, shop +{fleet} +·+ - +█·+ 0\.4 ms +\d s", live)
    assert re.search(rf"bbbbbbbb +● late .* {fleet - 1} +██·+ 1 +█+·+ 350 ms +3\d s", late)
    assert re.search(rf"cccccccc +○ gone .* 0 +█+·* {fleet} +█+ 4\.2 s +10 min", gone)


def test_json_is_for_scripts(who: dict[str, str], fleet: int) -> None:
    shown = json.loads(run(who, "--json"))
    assert shown["revision"] == fleet
    assert [(one["id"], one["state"], one["behind"]) for one in shown["sidecars"]] == [
        (SIDECARS[0], "live", 0),
        (SIDECARS[1], "late", 1),
        (SIDECARS[2], "gone", fleet),
    ]


def test_workers_stand_below_with_what_they_look_after(own_plane: Plane, own_admin: Api, who: dict[str, str], fleet: int) -> None:
    webhook = {"url": "https://hooks.example.com", "events": ["*"], "org": None}
    made = [own_admin.post("/v1/webhooks", webhook)["id"] for _ in range(2)]
    for worker, seconds in ((SIDECARS[0], 8), (SIDECARS[1], -2)):
        own_plane.execute(
            "INSERT INTO catalyst.workers (id, version, until, started_at)"
            " VALUES (%s, '0.1.0', now() + make_interval(secs => %s), now() - interval '2 hours')",
            worker,
            seconds,
        )
    own_plane.execute("UPDATE catalyst.webhook_queues SET worker_id = %s WHERE webhook_id = ANY (%s::uuid[])", SIDECARS[0], made)
    live, late = [line for line in run(who).splitlines() if line.strip()][-2:]
    assert re.search(r"aaaaaaaa +● live +0\.1\.0 +2 +2 h", live)
    assert re.search(r"bbbbbbbb +○ late +0\.1\.0 +0 +2 h", late)
    assert [(one["webhooks"], one["live"]) for one in json.loads(run(who, "--json"))["workers"]] == [(2, True), (0, False)]
    assert run(who, "--watch", "--for", "0").splitlines()[0].endswith("; workers: 1")


def test_no_live_sidecar_is_a_no(who: dict[str, str]) -> None:
    assert "No sidecar has reported" in run(who, status=1)


def test_watching_without_a_terminal_prints_a_line_a_second(who: dict[str, str], fleet: int) -> None:
    lines = run(who, "--watch", "--for", "0.5").splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(
            rf"\d\d:\d\d:\d\d revision {fleet}: 1 live, 1 late, 1 gone; most behind 1, most lag 0\.350 s", line
        ), line
    assert [json.loads(line)["revision"] for line in run(who, "--watch", "--for", "0.5", "--json").splitlines()] == [fleet, fleet]


def test_watching_at_a_terminal_draws_until_ctrl_c(who: dict[str, str], fleet: int) -> None:
    ours, theirs = pty.openpty()
    variables = environment(**who, TERM="xterm-256color", COLUMNS="130")
    command = [sys.executable, "-m", "control_plane", "fleet", "--watch"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        drawn = b""
        try:
            while drawn.count(b"aaaaaaaa") < 2:
                drawn += os.read(ours, 65536)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    os.close(ours)
    assert b"\x1b[32m" in drawn, "colours"


def test_watching_goes_on_while_the_control_plane_is_away(own_plane: Plane, own_admin: Api, fleet: int) -> None:
    with Calls(own_plane.url, own_plane.administrator.api_key) as calls:
        moments: Iterator[tuple[Any, str]] = _moments(calls, as_json=False, width=130)
        assert f"revision {fleet}" in next(moments)[1]
        calls._client.base_url = "http://127.0.0.1:9"
        picture, line = next(moments)
        console = Console(width=130, file=io.StringIO())
        console.print(picture)
        text = console.file.getvalue()
        assert "no answer from the control plane" in line
        assert "no answer from the control plane" in text
        assert "aaaaaaaa" in text
        calls._client.base_url = own_plane.url
        while "no answer" in (line := next(moments)[1]):
            pass
        assert f"revision {fleet}" in line


def test_pictures_are_of_what_was_counted() -> None:
    text = '# HELP x y\nx_total{a="b"} 3.0\nx_total{a="c} d"} 4\nx_total_more 9\nx_created{a="b"} 1\n'
    assert total(text, "x_total") == 7
    rate = Rate()
    for count, now in ((10, 0.0), (30, 2.0), (5, 3.0)):
        rate.count(count, now)
    assert list(rate.rates) == [10.0, 0.0]
    assert sparkline([0, 1, 2]).plain == "▁▅█"
    assert sparkline([0, 0]).plain == "▁▁"
    assert [bar(part, 10, "red").plain.count("█") for part in (0, 0.01, 5, 10, 99)] == [0, 1, 6, 12, 12]
    assert [ago(seconds) for seconds in (-1, 59.9, 60, 7200, 3 * 86_400)] == ["0 s", "59 s", "1 min", "2 h", "3 d"]
    assert [span(seconds) for seconds in (0.0004, 0.012, 3.21)] == ["0.4 ms", "12 ms", "3.2 s"]
