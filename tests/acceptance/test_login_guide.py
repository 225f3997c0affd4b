"""docs/guides/log-people-in.md, as it is written, with a real provider; then somebody logs in."""

import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from control_plane.demo import provider
from control_plane.demo.browser import Browser
from control_plane.demo.provider import Account, Place
from tests.acceptance.test_quickstart import PROGRAMS, clean_environment, everything_up, folder, free_port  # noqa: F401  (a fixture)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "log-people-in.md"
ALICE = Account("alice", "alice@acme.example")


@pytest.mark.timeout(180)
def test_the_guide_to_logging_in(folder: Path) -> None:  # noqa: F811  (the fixture)
    door, login, application = free_port(), free_port(), free_port()
    ports = {":8000": f":{door}", "127.0.0.1:8081": f"127.0.0.1:{login}", "3000": application, "$PWD/.venv/bin": str(PROGRAMS)}
    settings, *blocks = (
        put_in(block, ports) for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    )
    place = Place()
    (folder / "secret.txt").write_text(f"{place.client_secret}\n")
    with ExitStack() as running:
        urls = running.enter_context(everything_up(folder, dict(re.findall(r"(CATALYST_[A-Z_]+)=(\S+)", settings))))
        env = clean_environment() | {
            "CATALYST_URL": urls["control"],
            "CATALYST_SIDECAR_LISTEN": urls["sidecar"].removeprefix("http://"),
            "ISSUER": place.issuer,
        }
        # The last command waits until the test has seen enough.
        script = (
            "set -euo pipefail\ntrap 'jobs -p | xargs --no-run-if-empty kill' EXIT\n"
            + "\n".join(blocks)
            + "\necho ready\nread -r _\n"
        )
        shell = running.enter_context(
            subprocess.Popen(
                ["bash", "-c", script], cwd=folder, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        running.callback(shell.communicate, "\n", timeout=20)
        assert shell.stdout is not None
        said = list(iter(shell.stdout.readline, "ready\n"))
        (callback,) = {found for line in said for found in re.findall(r"http://\S+/login/callback/[0-9a-f-]{36}", line)}
        (location,) = (line for line in said if line.lower().startswith("location: "))
        assert location.split()[1] == (
            f"http://auth.localhost:{door}/login?return_to=http%3A%2F%2Forders.localhost%3A{door}%2F%3Fpage%3D2"
        )
        running.callback(provider.start(place, callback, f"http://auth.localhost:{door}/logout/done", [ALICE], folder).stop)
        alice = Browser()
        page = alice.visit(f"http://orders.localhost:{door}/?page=2")
        for typed in ({"login": ALICE.name}, {"password": ALICE.password}):
            assert page.url.startswith(place.issuer)
            page = alice.submit(page, typed)
    assert (page.status, page.url, page.body) == (200, f"http://orders.localhost:{door}/?page=2", "an order\n")


def put_in(text: str, places: dict[str, str]) -> str:
    for written, here in places.items():
        text = text.replace(written, here)
    return text
