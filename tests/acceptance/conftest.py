"""Control planes to call: one that tests share, emptied after each, and one of a test's own."""

import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import structlog

from tests.acceptance.logins import Door
from tests.acceptance.plane import Api, Plane

_SHARED = "acceptance"
_EMPTY = """
    DELETE FROM catalyst.idempotency_keys;
    DELETE FROM catalyst.attempts;
    DELETE FROM catalyst.webhooks;
    TRUNCATE catalyst.webhook_events, catalyst.webhook_deliveries, catalyst.webhook_attempts;
    DELETE FROM catalyst.orgs WHERE NOT is_system;
    DELETE FROM catalyst.applications;
    DELETE FROM catalyst.profiles WHERE id <> %s;
"""


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    """What the planes in this process would log is looked at in processes of their own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture(scope="session")
def _shared(postgres: Any) -> Iterator[Plane]:
    with psycopg.connect(postgres.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_SHARED} TEMPLATE catalyst OWNER catalyst_migrate")
    with Plane(postgres.url("catalyst_control", _SHARED)) as plane:
        yield plane


@pytest.fixture
def plane(_shared: Plane, postgres: Any) -> Iterator[Plane]:
    """For tests that leave the system org and the signing keys as they are."""
    yield _shared
    _shared.app.state.attempts._counts.clear()
    with psycopg.connect(postgres.url("postgres", _SHARED)) as connection:
        connection.execute(_EMPTY.replace("%s", f"'{_shared.administrator.profile}'"))


@pytest.fixture
def own_plane(database: Any) -> Iterator[Plane]:
    with Plane(database.url("catalyst_control")) as plane:
        yield plane


@pytest.fixture
def admin(plane: Plane) -> Iterator[Api]:
    """Calls as the first administrator of the shared control plane."""
    api = Api(plane.url, plane.administrator.api_key)
    yield api
    api.close()


@pytest.fixture
def own_admin(own_plane: Plane) -> Iterator[Api]:
    """Calls as the first administrator of the test's own control plane."""
    api = Api(own_plane.url, own_plane.administrator.api_key)
    yield api
    api.close()


@pytest.fixture
def door(plane: Plane) -> Iterator[Door]:
    """Logins and refreshes, in the shared control plane's database."""
    with Door(plane.settings) as door:
        yield door
