"""Systems that send webhooks."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.acceptance.plane import Plane
from tests.conftest import Database, make_database
from tests.webhooks.scene import Scene, scene


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    """What the planes in this process would log is looked at in processes of their own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture(scope="module")
def _shared(postgres: Any) -> Iterator[tuple[Plane, Database]]:
    for database in make_database(postgres, "catalyst"):
        with Plane(database.url("catalyst_control")) as plane:
            yield plane, database


@pytest.fixture
def system(_shared: tuple[Plane, Database], tmp_path: Path) -> Iterator[Scene]:
    """A module's, emptied after each test."""
    with scene(*_shared, tmp_path) as made:
        yield made
        made.forget()
