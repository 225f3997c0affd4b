"""`catalyst webhooks tail` beside a real worker: what it shows, what it says where nothing comes, what it lives through."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from control_plane.cli.api import Api
from control_plane.cli.tail import Following, _why_quiet
from control_plane.errors import OperatorError
from tests.acceptance.command_line import catalyst_here
from tests.acceptance.plane import Plane
from tests.acceptance.processes import control_plane, environment
from tests.conftest import make_database
from tests.webhooks.answers import Answer
from tests.webhooks.scene import Scene, scene

_HANG_SECONDS = 40.0


class Tail:
    """A running `catalyst webhooks tail`, its output as it comes."""

    def __init__(self, url: str, key: str, *arguments: str) -> None:
        variables = environment(CATALYST_URL=url, CATALYST_API_KEY=key)
        command = [sys.executable, "-m", "control_plane", "webhooks", "tail", *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=variables)
        self.out: list[str] = []
        self.said: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.said))
        ]

    def _read(self, stream: Any, lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        self.wait(lambda: any("Following" in line for line in self.said))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for reader in self._readers:
            reader.join(20)
        self.process.wait(20)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def wait(self, holds: Any) -> None:
        deadline = time.monotonic() + _HANG_SECONDS
        while not holds():
            assert time.monotonic() < deadline, (self.out, self.said)
            assert self.process.poll() is None, (self.out, self.said)
            time.sleep(0.02)

    def attempts(self, count: int) -> list[Any]:
        """The first so many lines, read as JSON."""
        self.wait(lambda: len(self.out) >= count)
        return [json.loads(line) for line in self.out]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture(scope="module")
def going(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A system with a worker, that tests share: each has webhooks of its own, for a kind of event of its own."""
    folder = tmp_path_factory.mktemp("going")
    with (
        contextmanager(make_database)(postgres, "catalyst") as database,
        Plane(database.url("catalyst_control")) as plane,
        scene(plane, database, folder) as made,
        made.worker(),
    ):
        yield made


def tailing(system: Scene, *arguments: str) -> Tail:
    return Tail(system.plane.url, system.plane.administrator.api_key, *arguments)


def test_each_attempt_is_a_line_of_json_whoever_it_was_for(system: Scene) -> None:
    """What fails and is sent again, and a webhook that is made while somebody follows."""
    system.receiver.answer("/one", Answer(500, body="no \x1b[31mred"), Answer())
    one = system.endpoint("/one", retry_schedule=[1])
    with tailing(system, "--json") as tail, tailing(system, "--failed", "--json") as failures, system.worker():
        system.emit(1, kind="role.created")
        first, *rest = [line for line in tail.attempts(3) if line["webhook"] == one]
        assert (first["webhook"], first["status_code"], first["error"], first["number"]) == (one, 500, "status", 1)
        two = system.endpoint("/two", events=["role.*"])
        system.emit(1, kind="role.created")
        tail.wait(lambda: any(json.loads(line)["webhook"] == two for line in tail.out))
        again = [line for line in map(json.loads, tail.out) if line["delivery"] == first["delivery"]]
        assert [(line["number"], line["error"]) for line in again if line["webhook"] == one] == [(1, "status"), (2, None)]
        assert {line["error"] for line in failures.attempts(1)} == {"status"}
        assert tail.interrupt() == failures.interrupt() == 0
        assert rest
    assert len(failures.out) == 1
    ids = [json.loads(line)["id"] for line in tail.out]
    assert len(ids) == len(set(ids))
    assert "1 webhook" in tail.said[0]


def test_a_line_says_where_what_and_how_and_cannot_paint_the_terminal(going: Scene) -> None:
    going.receiver.answer("/hook-secret-path", Answer(503, body="busy\x1b[2J\r\nreally"))
    webhook = going.endpoint("/hook-secret-path", events=["role.*"], retry_schedule=[])
    with tailing(going, webhook[:8]) as tail:
        going.emit(1, kind="role.created")
        tail.wait(lambda: len(tail.out) >= 2)
        line, answer = tail.out[:2]
    host = re.escape(going.receiver.url.removeprefix("http://"))
    shown = rf"\d\d:\d\d:\d\d\.\d\d\d {webhook[:8]} {host} role\.created ✗ 503 status \d+ ms attempt 1 msg_[0-9a-f]{{32}}\n"
    assert re.fullmatch(shown, line), line
    assert "busy" in answer
    assert "really" in answer
    assert not set("\x1b\r") & set(line + answer)
    assert "secret-path" not in line + answer


def test_what_was_before_is_shown_where_it_is_asked_for(going: Scene) -> None:
    webhook = going.endpoint("/fine", events=["group.*"])
    going.emit(5, kind="group.created")
    going.settled()
    going.change(
        "UPDATE catalyst.webhook_attempts SET at = now() - interval '1 hour' WHERE webhook_id = %s"
        " AND id <= (SELECT min(id) + 1 FROM catalyst.webhook_attempts WHERE webhook_id = %s)",
        webhook,
        webhook,
    )
    with tailing(going, "--since", "10m", "--json", webhook) as tail:
        found = tail.attempts(3)
        assert tail.interrupt() == 0
    assert len(found) == 3
    assert {line["webhook"] for line in found} == {webhook}
    assert [line["at"] for line in found] == sorted(line["at"] for line in found)


def test_it_lives_through_a_restart_and_misses_nothing(going: Scene, tmp_path: Path) -> None:
    webhook = going.endpoint("/fine", events=["grant.*"])
    url, key = going.database.url("catalyst_control"), going.plane.administrator.api_key
    with (
        control_plane(url, tmp_path / "before.log") as before,
        Tail(before.url, key, "--json", webhook) as tail,
    ):
        going.emit(2, kind="grant.created")
        tail.attempts(2)
        assert before.stop() == 0
        tail.wait(lambda: any("Asking again every second" in line for line in tail.said))
        going.emit(3, kind="grant.created")
        going.settled()
        again = {"CATALYST_CONTROL_LISTEN": before.url.removeprefix("http://")}
        with control_plane(url, tmp_path / "after.log", **again):
            found = tail.attempts(5)
            tail.wait(lambda: any("answers again" in line for line in tail.said))
            assert tail.interrupt() == 0
    assert len({line["id"] for line in found}) == 5


def test_at_a_terminal_it_is_coloured_and_ends_at_ctrl_c(going: Scene) -> None:
    webhook = going.endpoint("/fine", events=["org.*"])
    ours, theirs = pty.openpty()
    who = {"CATALYST_URL": going.plane.url, "CATALYST_API_KEY": going.plane.administrator.api_key}
    variables = environment(**who, TERM="xterm-256color", COLUMNS="60")
    command = [sys.executable, "-m", "control_plane", "webhooks", "tail", webhook]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        drawn = b""
        try:
            while b"Following" not in drawn:
                drawn += os.read(ours, 65536)
            going.emit(1, kind="org.created")
            while b"attempt 1" not in drawn:
                drawn += os.read(ours, 65536)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    os.close(ours)
    assert b"\x1b[32m" in drawn, "green"


class Breaking(Api):
    """An API of which something happens before the call of that number."""

    breaks_at = -1

    @staticmethod
    def happens() -> None:
        raise OperatorError("no answer")

    def get(self, path: str, **more: Any) -> Any:
        self.breaks_at -= 1
        if self.breaks_at == 0:
            self.happens()
        return super().get(path, **more)


def test_a_look_that_fails_half_way_loses_nothing(going: Scene) -> None:
    """Two webhooks: one has been asked when the answer about the other does not come. And a page is full."""
    made = [going.endpoint(f"/{name}", events=["profile.*"]) for name in ("some", "others")]
    with Breaking(going.plane.url, going.plane.administrator.api_key) as api:
        following = Following(api, made, failed=False)
        following.begin(None)
        going.emit(250, kind="profile.created")
        going.settled()
        api.breaks_at = 2
        with pytest.raises(OperatorError, match="no answer"):
            following.look()
        found, more = following.look()
        assert more
        while more:
            came, more = following.look()
            found += came
        assert following.look() == ([], False)
        # One of them is deleted between the list and the question.
        going.emit(1, kind="profile.created")
        going.settled()
        api.happens, api.breaks_at = lambda: going.api.delete(f"/v1/webhooks/{made[1]}"), 1  # type: ignore[method-assign]
        came, more = following.look()
        assert ({one["webhook"] for one in came} <= {made[0]}, more) == (True, False)
    assert Counter(one["webhook"] for one in found) == dict.fromkeys(made, 250)
    assert len({one["id"] for one in found}) == 500


def test_it_says_why_nothing_comes() -> None:
    def webhook(status: str = "active", pending: int = 0, retrying: int = 0, held: str | None = None) -> dict[str, Any]:
        health = {"pending": pending, "retrying": retrying, "held_until": held}
        return {"id": "11111111-0000", "url": "https://hooks.example.com/path", "status": status, "health": health}

    def said(*webhooks: dict[str, Any]) -> str:
        return "\n".join(_why_quiet(webhooks))

    assert "catalyst webhooks create" in said()
    assert "nothing waits for any" in said(webhook(), webhook("paused"))
    assert "hooks.example.com: 3 wait, and it is paused" in said(webhook("paused", 3))
    assert "held until 00:00:00 UTC" in said(webhook(pending=3, retrying=3, held="2999-01-01T00:00:00Z"))
    assert "all for their next attempt" in said(webhook(pending=3, retrying=3, held="2020-01-01T00:00:00Z"))
    assert "see that `catalyst worker` runs" in said(webhook(pending=3, retrying=2))


def test_what_cannot_be_followed_is_said(going: Scene) -> None:
    for number in range(17):
        going.endpoint(f"/{number}", events=["signing_key.*"])
    # Of 17 two begin alike.
    begins = Counter(one["id"][0] for one in going.api.get("/v1/webhooks")["items"])
    variables = {"CATALYST_URL": going.plane.url, "CATALYST_API_KEY": going.plane.administrator.api_key}
    for arguments, said in (
        (["nonsense"], "is no webhook in reach"),
        ([begins.most_common(1)[0][0]], "is how several ids begin"),
        (["--since", "yesterday"], "write how long ago"),
        (["--since", "2026-01-01T00:00:00"], "write how long ago"),
    ):
        done = catalyst_here("webhooks", "tail", *arguments, **variables)
        assert done.returncode == 2
        assert said in done.stderr
    done = catalyst_here("webhooks", "tail", **variables | {"CATALYST_API_KEY": "cak_nonsense"})
    assert (done.returncode, "401" in done.stderr) == (2, True)


def test_whoever_reads_it_may_go_away(going: Scene) -> None:
    webhook = going.endpoint("/fine", events=["session.*"])
    variables = environment(CATALYST_URL=going.plane.url, CATALYST_API_KEY=going.plane.administrator.api_key)
    going.emit(1, kind="session.created")
    going.settled()
    command = f"{sys.executable} -m control_plane webhooks tail {webhook} --json --since 1h | head -1; echo ${{PIPESTATUS[0]}}"
    with subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables
    ) as shell:
        assert shell.stdout is not None
        assert json.loads(shell.stdout.readline())["number"] == 1
        # It learns of it by the next line that it writes.
        going.emit(1, kind="session.created")
        assert shell.stdout.readline() == "0\n"
        assert shell.stderr is not None
        assert "Traceback" not in shell.stderr.read()
