"""One running system for this folder's tests, and one proxy of each kind."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from control_plane.proxies import PROXIES
from tests.proxies.realm import Door, Realm, running_proxy, running_realm


@pytest.fixture(scope="session")
def realm() -> Iterator[Realm]:
    with running_realm() as realm:
        yield realm


@pytest.fixture(scope="session", params=sorted(PROXIES))
def door(request: pytest.FixtureRequest, realm: Realm) -> Iterator[Door]:
    """Each of the proxies, in front of the recording application."""
    with running_proxy(request.param, realm.recorder.port, realm.stack.listen["sidecar"]) as port:
        yield Door(request.param, port, realm.recorder)


@pytest.fixture
def start_proxy():
    """Start further proxies, stopped at the end of the test: `start_proxy(name, application port, sidecar, *options) -> port`."""
    with ExitStack() as running:
        yield lambda *arguments, **change: running.enter_context(running_proxy(*arguments, **change))
