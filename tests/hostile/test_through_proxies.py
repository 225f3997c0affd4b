"""The same attacks through real proxies: whatever a client writes, the application is reached only by what was allowed."""

from urllib.parse import unquote

import pytest

from tests.hostile.dialects import lines, raw
from tests.proxies.realm import Door, Realm
from tests.proxies.wire import head, send


def open_to_all(target: str) -> bool:
    """Whether every reading of a target lies under the one path that is open to everybody."""
    path = target.partition("?")[0]
    for _ in range(4):
        if not f"{path}/".startswith("/public/") or ".." in path.replace("\\", "/").split("/"):
            return False
        path = unquote(path)
    return True


@pytest.mark.parametrize("line", lines("paths.txt"))
def test_no_path_leads_past_the_rules(door: Door, realm: Realm, line: str):
    """CVE-2026-33494, CVE-2026-48020, CVE-2025-66490, CVE-2021-32779: nobody reaches what is not public."""
    door.ask("GET", raw(line))
    assert all(open_to_all(received.target) for received in realm.recorder.requests)


@pytest.mark.parametrize("line", lines("login_paths.txt"))
def test_no_path_of_the_login_reaches_the_application(door: Door, realm: Realm, line: str):
    """Envoy and Traefik take `..` out of a path before they ask; then it is another path, and alice may see that."""
    answer = door.ask("GET", raw(line), ("Cookie", f"catalyst_session={realm.token}"))
    elsewhere = ".." in unquote(line)
    assert elsewhere or not 200 <= answer.status < 300
    assert all(elsewhere and "catalyst" not in unquote(received.target).lower() for received in realm.recorder.requests)


@pytest.mark.parametrize("line", lines("queries.txt"))
def test_no_query_opens_a_path(door: Door, realm: Realm, line: str):
    """CVE-2025-54576."""
    assert door.ask("GET", line).status == 401
    assert realm.recorder.requests == []


@pytest.mark.parametrize("line", lines("bypasses.txt"))
def test_no_magic_way_in(door: Door, realm: Realm, line: str):
    """CVE-2026-34457, CVE-2026-40575."""
    method, path, header = line.split(" ", 2)
    name, _, value = header.partition(": ")
    assert door.ask(method, path, (name, value)).status in range(400, 600)
    assert realm.recorder.requests == []


@pytest.mark.parametrize("line", lines("credentials.txt"))
def test_no_bad_credential_passes(door: Door, realm: Realm, line: str):
    """CVE-2026-25748, CVE-2021-32637."""
    name, _, value = line.format(token=realm.token, key=realm.key).partition(":")
    assert door.ask("GET", "/orders/42", (name, value.strip())).status in range(400, 500)
    assert realm.recorder.requests == []


@pytest.mark.parametrize(
    "framing",
    [
        [("Content-Length", "4"), ("Transfer-Encoding", "chunked")],
        [("Content-Length", "4"), ("Content-Length", "44")],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")],
        [("Transfer-Encoding", "xchunked")],
        [("Content-Length", "+4")],
    ],
)
def test_no_request_hides_in_another(door: Door, realm: Realm, framing: list[tuple[str, str]]):
    """Request smuggling: the second request, for a path that nobody may see, must not arrive behind the first."""
    realm.recorder.requests.clear()
    hidden = b"0\r\n\r\n" + head("GET", "/orders/smuggled")
    send(door.port, head("POST", "/public/health", *framing) + hidden)
    assert "/orders/smuggled" not in [received.target for received in realm.recorder.requests]
