"""Names: each connection goes to what was judged for it, whatever a name server says the next time (DNS rebinding)."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from control_plane.delivery.sending import Sender
from tests.webhooks.answers import Answer
from tests.webhooks.attempts import LOOPBACK, MESSAGE, endpoint, with_sender
from tests.webhooks.names import NameServer
from tests.webhooks.receiver import Receiver

UNSHARE = ["unshare", "--map-root-user", "--mount", "--net"]


def to_hook(receiver: Receiver, versions: str, resolver: Any) -> list[str | None]:
    """An attempt with each version of an endpoint at hook.example: another version, another connection."""
    url = f"http://hook.example:{receiver.port}/"

    async def attempts(sender: Sender) -> list[str | None]:
        return [(await sender.send(endpoint(url, version=version), MESSAGE, datetime.now(UTC))).error for version in versions]

    return with_sender(attempts, LOOPBACK, resolver)


def test_a_kept_connection_is_not_asked_for_again_and_a_new_one_is() -> None:
    with NameServer({"hook.example": ["127.0.0.1", "169.254.169.254", "127.0.0.1"]}) as names, Receiver() as receiver:
        assert to_hook(receiver, "1112233", names.resolve) == [None, None, None, "address_refused", None, None, None]
        assert names.asked == ["hook.example"] * 4
        assert (receiver.connections, len(receiver.arrivals("/"))) == (3, 6)


def test_what_was_judged_is_what_is_connected_to() -> None:
    """Judged and connected to by one answer: a second question would have been answered otherwise."""
    names = NameServer({"hook.example": ["127.0.0.1", "127.0.0.2"]})
    judged = Receiver()
    with names, judged, Receiver(address="127.0.0.2", port=judged.port) as other:
        assert to_hook(judged, "1", names.resolve) == [None]
        assert (judged.connections, other.connections, names.asked) == (1, 0, ["hook.example"])
        assert to_hook(judged, "1", names.resolve) == [None]
        assert (judged.connections, other.connections, names.asked) == (1, 1, ["hook.example"] * 2)


def test_a_connection_that_the_receiver_closes_is_made_anew_and_judged_anew() -> None:
    with NameServer({"hook.example": ["127.0.0.1", "10.0.0.1"]}) as names, Receiver() as receiver:
        receiver.answer("/", Answer(200, {"connection": "close"}))
        assert to_hook(receiver, "11", names.resolve) == [None, "address_refused"]
        assert receiver.connections == 1


def test_the_host_that_is_named_is_what_the_receiver_is_told() -> None:
    with NameServer({"hook.example": ["127.0.0.1"]}) as names, Receiver() as receiver:
        assert to_hook(receiver, "1", names.resolve) == [None]
        (arrival,) = receiver.arrivals("/")
        assert arrival.headers["host"] == f"hook.example:{receiver.port}"


def test_a_name_server_that_knows_no_such_name() -> None:
    with NameServer({}) as names, Receiver() as receiver:
        assert to_hook(receiver, "1", names.resolve) == ["address_refused"]
        assert receiver.connections == 0


@pytest.fixture
def in_a_machine_of_its_own() -> Callable[[str], Any]:
    """Runs a module where mounts and the network are its own, as root there; what it printed."""
    for tool in ("unshare", "mount"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"namespaces cannot be made here: {tried.stderr.strip()}")

    def run(module: str) -> Any:
        done = subprocess.run(
            [*UNSHARE, sys.executable, "-m", module],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_public_name_that_leads_inside_the_next_time(in_a_machine_of_its_own: Callable[[str], Any]) -> None:
    """With the system's resolver and no network named: out where the name led out, and never to what listens inside."""
    seen = in_a_machine_of_its_own("tests.webhooks.rebinding")
    delivered, refused = {"status": 204, "error": None}, {"status": None, "error": "address_refused"}
    assert seen == {
        "outcomes": [delivered, delivered, refused, delivered, refused],
        "asked": ["hook.example"] * 4,
        "outside": 2,
        "inside": 0,
    }
