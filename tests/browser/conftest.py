"""One browser and one running system for this folder's tests. A person of each test is a browser profile of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Person, new_context, pictures, require_chromium, running_chromium
from tests.browser.scene import DOORS, Scene, running_scene


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Not for longer than a module: while Playwright runs, nothing else in its thread can have an event loop."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    require_chromium()
    with running_scene() as scene:
        yield scene


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("screenshots"))


@pytest.fixture(scope="session", params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    """Each of the proxies."""
    name: str = request.param
    return name


@pytest.fixture
def somebody(request: pytest.FixtureRequest, chromium: Browser, folder: Path) -> Iterator[Callable[..., Person]]:
    """`somebody(**options of the profile)`: a person with a browser of their own. What they saw last is kept of a test that fails."""
    people: list[Person] = []
    failed = request.session.testsfailed

    def enter(**options: Any) -> Person:
        people.append(Person(new_context(chromium, **options), folder))
        return people[-1]

    yield enter
    for person in people:
        if request.session.testsfailed > failed:
            person.shoot(f"failed-{request.node.name}")
            print(f"last seen, at {person.page.url}:\n{person.text}")
        person.close()


@pytest.fixture(autouse=True)
def honest(request: pytest.FixtureRequest) -> None:
    """What a test told the other provider is over with it."""
    if "scene" in request.fixturenames:
        scene: Scene = request.getfixturevalue("scene")
        scene.liar.lies, scene.liar.auto = set(), None
