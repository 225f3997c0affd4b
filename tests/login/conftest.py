"""One control plane with a sidecar for all tests of logins; what a test puts into it is taken out after it."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import _quiet
from tests.acceptance.plane import Api, Plane
from tests.login.browser import Browser
from tests.login.world import World, furnish, protect, sidecar_of
from tests.protocol import processes
from tests.providers.liar import Liar

__all__ = ["_quiet"]

_NAME = "logins"
_EMPTY = """
    DELETE FROM catalyst.orgs WHERE NOT is_system;
    DELETE FROM catalyst.profiles WHERE id <> %s;
"""


@pytest.fixture(scope="session")
def _plane(postgres: Any) -> Iterator[Plane]:
    with psycopg.connect(postgres.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_NAME} TEMPLATE catalyst OWNER catalyst_migrate")
    plane = Plane(postgres.url("catalyst_control", _NAME))
    # Each browser is told apart by its address.
    plane.settings = replace(plane.settings, trusted_proxies=(ip_network("127.0.0.0/8"),))
    with plane:
        admin = Api(plane.url, plane.administrator.api_key)
        protect(admin)
        admin.close()
        yield plane


@pytest.fixture(scope="session")
def _sidecar(_plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Sidecar]:
    folder: Path = tmp_path_factory.mktemp("sidecar")
    with sidecar_of(_plane, folder) as running:
        yield running


@pytest.fixture(scope="session")
def _liar() -> Iterator[Liar]:
    with Liar() as liar:
        yield liar


@pytest.fixture
def world(_plane: Plane, _sidecar: processes.Sidecar, _liar: Liar, postgres: Any) -> Iterator[World]:
    """Alice is a member of acme, whose provider logs her in without a form."""
    admin = Api(_plane.url, _plane.administrator.api_key)
    _liar.lies, _liar.auto, _liar.logins = set(), "alice", {}
    provider, alice = furnish(admin, _liar)
    yield World(_plane, admin, _sidecar, _liar, provider, alice)
    admin.close()
    with psycopg.connect(postgres.url("postgres", _NAME)) as connection:
        connection.execute(_EMPTY.replace("%s", f"'{_plane.administrator.profile}'"))


@pytest.fixture
def browser(world: World) -> Iterator[Browser]:
    browser = world.browser()
    yield browser
    browser.close()


@pytest.fixture
def thief(world: World) -> Iterator[Browser]:
    """Somebody else's browser."""
    thief = world.browser()
    yield thief
    thief.close()
