"""The real browser: whichever Chromium is on PATH, driven by Playwright."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # *.localhost is this machine for every browser; names of different domains are by this.
    "--host-resolver-rules=MAP *.test 127.0.0.1",
)
WAIT_MILLISECONDS = 20_000
"""After this something hangs."""


def require_chromium() -> str:
    """Where it is; skips where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")
    return program


@contextmanager
def running_chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_chromium(), args=list(FLAGS))
        yield browser
        browser.close()


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    return browser.new_context(ignore_https_errors=True, locale="en-GB", **options)


class Person:
    """Somebody's browser profile, with one tab. `shoot(name)` keeps a picture of what they see."""

    def __init__(self, context: BrowserContext, pictures: Path) -> None:
        self.context = context
        self.context.set_default_timeout(WAIT_MILLISECONDS)
        self.page: Page = self.context.new_page()
        self._pictures = pictures

    def close(self) -> None:
        self.context.close()

    def go(self, url: str) -> None:
        self.page.goto(url)

    @property
    def text(self) -> str:
        """What is to be read on the page."""
        return self.page.locator("body").inner_text()

    def cookies(self, host: str) -> dict[str, dict[str, object]]:
        """The cookies kept for a host, by name."""
        return {c["name"]: dict(c) for c in self.context.cookies() if c["domain"].lstrip(".") == host}

    def shoot(self, name: str, page: Page | None = None) -> None:
        (page or self.page).screenshot(path=self._pictures / f"{name}.png", full_page=True)


@contextmanager
def person_without_cookies(browser: Browser, folder: Path, pictures: Path) -> Iterator[Person]:
    """A profile on disk whose settings block every cookie."""
    settings = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (folder / "Default").mkdir()
    (folder / "Default" / "Preferences").write_text(json.dumps(settings))
    context = browser.browser_type.launch_persistent_context(folder, executable_path=require_chromium(), args=list(FLAGS))
    yield Person(context, pictures)
    context.close()


def pictures(fallback: Path) -> Path:
    """CATALYST_SCREENSHOTS, or pytest's folder."""
    folder = Path(os.environ.get("CATALYST_SCREENSHOTS") or fallback)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
