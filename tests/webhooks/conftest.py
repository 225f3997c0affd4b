"""Systems that send webhooks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.plane import Plane
from tests.webhooks.scene import Scene, scene


@pytest.fixture
def system(database: Any, tmp_path: Path) -> Iterator[Scene]:
    """One of the test's own."""
    with Plane(database.url("catalyst_control")) as plane, scene(plane, database, tmp_path) as made:
        yield made
