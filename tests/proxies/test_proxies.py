"""Real proxies with the configuration that `catalyst proxy-config` prints: what the application gets is what was judged."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from control_plane.cli.processes import free_port
from control_plane.errors import OperatorError
from control_plane.proxies import PROXIES, Address, Login, Parameters
from sidecar.contract import IDENTITY_HEADERS
from tests.proxies.realm import LOGIN, Door, Realm, cookie, find_program
from tests.proxies.wire import Impostor, Recorder, Tap, head, read_answer, send


def lines(name: str) -> list[str]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("# ")]


SPOOFED = [(name, "spoofed") for name in (*IDENTITY_HEADERS, "x-tier", "tenant-id")]
BROWSER = (("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"))
SPOOFED_FORWARDED = [
    ("X-Forwarded-Uri", "/public/health"),
    ("X-Forwarded-Method", "HEAD"),
    ("X-Forwarded-Host", "evil.example.com"),
    ("X-Forwarded-Proto", "https"),
    ("X-Original-URL", "http://orders.example.com/public/health"),
    ("X-Original-URI", "/public/health"),
    ("X-Original-Method", "HEAD"),
    ("X-Rewrite-URL", "/public/health"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Forwarded", 'for=10.1.2.3;host="evil.example.com"'),
]


def test_identity_headers_take_the_place_of_the_clients_own(door: Door, realm: Realm):
    answer = door.ask("GET", "/orders/42", cookie(realm.token), *SPOOFED)
    assert answer.status == 200
    (received,) = realm.recorder.requests
    assert "spoofed" not in [value for _, value in received.lines]
    assert received.one("x-user-sub") == realm.alice
    assert received.one("x-user-email") == "alice@acme.example"
    assert received.one("x-org-id") == realm.org
    assert received.one("x-session-id") == realm.session
    assert received.one("x-user-entitlements") == "orders:read"
    assert json.loads(received.one("x-policy-obligations")) == {"mask": ["email"]}
    assert received.one("x-tier") == "gold"
    assert received.one("x-forward-auth-reason") == "policy.rule.orders.allow"


def test_empty_answers_remove_the_clients_own(door: Door, realm: Realm):
    """CVE-2026-30851: an identity header that the answer left out or empty let the client's own copy through."""
    assert door.ask("GET", "/public/health", *SPOOFED).status == 200
    (received,) = realm.recorder.requests
    assert "spoofed" not in [value for _, value in received.lines]
    assert received.one("x-user-sub") == received.one("x-tier") == ""


@pytest.mark.parametrize("alias", lines("aliases.txt"))
def test_aliases_of_identity_headers_never_arrive(door: Door, realm: Realm, alias: str):
    """CVE-2025-64484, CVE-2026-88879: CGI, WSGI and PHP read every punctuation mark in a header's name as an underscore."""
    answer = door.ask("GET", "/orders/42", cookie(realm.token), (alias, "spoofed"))
    assert answer.status in {200, 400, 403}
    for received in realm.recorder.requests:
        assert received.one("x-user-sub") == realm.alice
        assert received.one("x-tier") == "gold"
        assert received.one("tenant-id") == "acme"


@pytest.mark.parametrize("target", lines("targets.txt"))
def test_what_arrives_was_judged(door: Door, realm: Realm, target: str):
    """CVE-2026-33494, CVE-2026-48020, CVE-2025-66490: path and host are compared with the claims of x-decision-jwt."""
    answer = door.ask("GET", target, cookie(realm.token))
    assert (answer.status == 200) == bool(realm.recorder.requests)
    for received in realm.recorder.requests:
        claims = jwt.decode(received.one("x-decision-jwt"), options={"verify_signature": False})
        assert received.target.partition("?")[0] == claims["path"]
        assert received.one("host") == claims["host"]
        assert received.method == claims["method"]
        # Only the rule for /any takes ambiguous targets, and it needs a credential; all others were refused.
        assert claims["path"].startswith(("/any", "/public/", "//"))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_method_that_arrives_was_judged(door: Door, realm: Realm, method: str):
    assert door.ask(method, "/orders/42", cookie(realm.token), body=b"x" if method == "POST" else b"").status == 200
    (received,) = realm.recorder.requests
    claims = jwt.decode(received.one("x-decision-jwt"), options={"verify_signature": False})
    assert received.method == claims["method"] == method


def test_spoofed_forwarded_headers_change_nothing(door: Door, realm: Realm):
    """CVE-2026-40575, CVE-2026-76835, CVE-2026-33495, CVE-2026-35051: forwarded headers of the client."""
    answer = door.ask("GET", "/orders/42", *SPOOFED_FORWARDED)
    assert (answer.status, answer.reason) == (401, "missing_credentials")
    assert realm.recorder.requests == []


def test_spoofed_forwarded_headers_do_not_reach_the_application(door: Door, realm: Realm):
    answer = door.ask("GET", "/orders/42", cookie(realm.token), *SPOOFED_FORWARDED)
    assert answer.status == 200
    (received,) = realm.recorder.requests
    theirs = {value for _, value in SPOOFED_FORWARDED}
    assert not theirs & {value for _, value in received.lines}


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP"])
def test_the_client_does_not_choose_its_address(door: Door, realm: Realm, name: str):
    """CVE-2024-47070 and its kin: the rule for /internal asks for 10.0.0.0/8."""
    assert door.ask("GET", "/internal/metrics", (name, "10.1.2.3")).status == 401
    assert door.ask("GET", "/orders/42", cookie(realm.token), (name, "10.1.2.3")).status == 200
    (received,) = realm.recorder.requests
    assert "10.1.2.3" not in str(received.lines)


def test_connection_cannot_remove_what_the_sidecar_says(door: Door, realm: Realm):
    """A header named in Connection is dropped at the next hop: a client must not drop x-policy-obligations that way."""
    answer = door.ask("GET", "/orders/42", cookie(realm.token), ("Connection", "close, x-user-sub, x-policy-obligations, x-tier"))
    assert answer.status in {200, 400}
    for received in realm.recorder.requests:
        assert received.one("x-user-sub") == realm.alice
        assert received.one("x-policy-obligations")
        assert received.one("x-tier") == "gold"


def test_refusals_reach_the_client_whole(door: Door, realm: Realm):
    nobody = door.ask("GET", "/orders/42")
    assert (nobody.status, nobody.reason) == (401, "missing_credentials")
    assert nobody.headers["www-authenticate"].startswith("Bearer ")
    assert json.loads(nobody.body) == {"error": "missing_credentials"}
    bob = door.ask("GET", "/orders/42", cookie(realm.bobs_token))
    assert (bob.status, bob.reason) == (403, "policy_denied")
    assert json.loads(bob.body) == {"error": "policy_denied"}
    assert realm.recorder.requests == []


def test_browsers_are_sent_to_log_in(door: Door, realm: Realm):
    answer = door.ask("GET", "/orders/42?expand=items", *BROWSER)
    assert (answer.status, answer.reason) == (302, "missing_credentials")
    expected = "http%3A%2F%2Forders.example.com%2Forders%2F42%3Fexpand%3Ditems"
    assert answer.headers["location"] == f"{LOGIN}?return_to={expected}"


OF_A_BROWSER = {
    "origin": "https://orders.example.com",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "accept": "text/html,application/xhtml+xml",
    "accept-language": "de-DE,de;q=0.9",
}
STEPS = (
    "HTTP/1.1 {status} Somewhere\r\n"
    "Location: /.catalyst/x?return_to=%2Forders%2F42%3Fa%3D1\r\n"
    "Set-Cookie: catalyst_binding=n; Path=/.catalyst/; HttpOnly; SameSite=Lax\r\n"
    "Set-Cookie: __Host-catalyst_session=t; Path=/; HttpOnly; SameSite=Lax; Secure\r\n"
    "Content-Security-Policy: default-src 'none'\r\n"
    "Cache-Control: no-store\r\n"
    "x-catalyst-refresh: /.catalyst/refresh?return_to=%2F\r\n"
    "x-catalyst-revision: 1\r\n"
    "Content-Type: text/html; charset=utf-8\r\n"
    "Content-Length: 11\r\nConnection: close\r\n\r\n<p>Hoë</p>"
)


def test_steps_of_a_login_reach_the_browser_whole(realm: Realm, start_proxy, door: Door):
    """Its address relative as it is, each cookie, the page and what guards it; and the sidecar sees what a browser says of itself."""
    sidecar = Impostor()
    port = start_proxy(door.name, realm.recorder.port, f"127.0.0.1:{sidecar.port}")
    realm.recorder.requests.clear()
    for status in (302, 303, 307, 400, 401, 403, 404, 409, 429):
        sidecar.raw = STEPS.format(status=status).encode()
        for method, body in (("GET", b""), ("POST", b"a=1")):
            length = [("Content-Length", str(len(body)))] if body else []
            answer = send(port, head(method, "/.catalyst/start?return_to=%2Fa", *OF_A_BROWSER.items(), *length) + body)
            assert (answer.status, answer.body.decode()) == (status, "<p>Hoë</p>")
            lines = [line.partition(": ") for line in answer.head.decode().split("\r\n")[1:]]
            names = [value.partition("=")[0] for name, _, value in lines if name.lower() == "set-cookie"]
            assert names == ["catalyst_binding", "__Host-catalyst_session"]
            for name in ("location", "content-security-policy", "cache-control", "x-catalyst-refresh", "content-type"):
                assert f"{name}: {answer.headers[name]}\r\n".lower() in STEPS.lower()
            told = dict(line.lower().split(": ", 1) for line in sidecar.asked.decode().split("\r\n")[1:] if ": " in line)
            assert {name: told.get(name) for name in OF_A_BROWSER} == {n: value.lower() for n, value in OF_A_BROWSER.items()}
    sidecar.close()
    assert realm.recorder.requests == []


def test_head_is_refused_without_a_body(door: Door):
    answer = door.ask("HEAD", "/orders/42")
    assert (answer.status, answer.body) == (401, b"")


@pytest.mark.parametrize(
    "credential", [("X-Api-Key", "{key}"), ("Authorization", "Bearer {token}"), ("Authorization", "Key {key}")]
)
def test_every_credential_passes_the_proxy(door: Door, realm: Realm, credential: tuple[str, str]):
    name, value = credential
    assert door.ask("GET", "/orders/42", (name, value.format(key=realm.key, token=realm.token))).status == 200
    assert realm.recorder.requests[0].one("x-user-sub") == realm.alice


def test_unknown_hosts_are_refused(door: Door, realm: Realm):
    answer = door.ask("GET", "/public/health", host="evil.example.com")
    assert (answer.status, answer.reason) == (403, "unknown_host")


@pytest.mark.parametrize("hosts", [("orders.example.com", "evil.example.com"), ("evil.example.com", "orders.example.com")])
def test_two_hosts_are_refused(door: Door, realm: Realm, hosts: tuple[str, str]):
    answer = door.ask("GET", "/public/health", *(("Host", host) for host in hosts), host=None)
    assert answer.status in {400, 403}
    assert realm.recorder.requests == []


@pytest.mark.parametrize(
    "host", ["user@orders.example.com", "orders.example.com:80:80", "orders.example.com/public", "", "[::1", "é"]
)
def test_malformed_hosts_are_refused(door: Door, realm: Realm, host: str):
    assert door.ask("GET", "/public/health", host=host).status in {400, 403, 404}
    assert realm.recorder.requests == []


def test_bodies_reach_the_application_and_not_the_sidecar(realm: Realm, start_proxy, door: Door):
    tap = Tap(("127.0.0.1", realm.sidecar_port))
    port = start_proxy(door.name, realm.recorder.port, f"127.0.0.1:{tap.port}")
    body = b"secret-canary " * 5000
    realm.recorder.requests.clear()
    raw = head("POST", "/orders/42", cookie(realm.token), ("Content-Length", str(len(body)))) + body
    assert send(port, raw).status == 200
    assert realm.recorder.requests[-1].body == body
    assert b"secret-canary" not in tap.sent
    tap.close()


def test_connections_to_the_sidecar_are_kept(realm: Realm, start_proxy, door: Door):
    tap = Tap(("127.0.0.1", realm.sidecar_port))
    port = start_proxy(door.name, realm.recorder.port, f"127.0.0.1:{tap.port}")
    before = tap.connections
    for _ in range(20):
        assert send(port, head("GET", "/public/health")).status == 200
    # One for each of the proxy's workers at most; a connection for each request would be 20.
    assert tap.connections - before <= 8
    tap.close()


GARBAGE = {
    "nothing": b"",
    "garbage": b"\x00\x01 200 OK\r\n\r\n",
    "error": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "half an answer": b"HTTP/1.1 200 OK\r\nX-User-Sub: ro",
    "redirect": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
}


def test_whatever_is_no_answer_is_a_refusal(realm: Realm, start_proxy, door: Door):
    """CVE-2021-32637, CVE-2026-25748: what went wrong was let through."""
    sidecar = Impostor()
    port = start_proxy(door.name, realm.recorder.port, f"127.0.0.1:{sidecar.port}")
    realm.recorder.requests.clear()
    asked = head("GET", "/orders/42", cookie(realm.token))
    for what, raw in GARBAGE.items():
        sidecar.raw = raw
        answer = send(port, asked)
        # What is not HTTP at all may be handed on as it is: the client has no answer then either.
        assert answer.status in range(300, 600) or not answer.head.startswith(b"HTTP/"), what
    sidecar.close()
    assert send(port, asked).status in range(500, 600), "nobody listens"
    assert realm.recorder.requests == []


def test_web_sockets_are_judged_and_pass(door: Door, realm: Realm):
    upgrade = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    )
    assert door.ask("GET", "/orders/live", *upgrade).status == 401
    assert realm.recorder.requests == []
    with socket.create_connection(("127.0.0.1", door.port), timeout=5) as connection:
        connection.sendall(head("GET", "/orders/live", cookie(realm.token), *upgrade, *SPOOFED))
        assert read_answer(connection).status == 101
        connection.sendall(b"hello")
        with connection.makefile("rb") as answered:
            assert answered.read(5) == b"HELLO"
    assert realm.recorder.requests[-1].one("x-user-sub") == realm.alice


@pytest.mark.parametrize(
    "connection", [["Upgrade, x-user-sub, x-policy-obligations"], ["Upgrade", "x-user-sub, x-policy-obligations"]]
)
def test_a_web_socket_cannot_remove_what_the_sidecar_says(door: Door, realm: Realm, connection: list[str]):
    """An upgrade needs its Connection on the next hop: what else a client named there must not go with it."""
    upgrade = (*(("Connection", value) for value in connection), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
    answer = door.ask("GET", "/orders/live", cookie(realm.token), *upgrade, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
    assert answer.status in {101, 400}
    for received in realm.recorder.requests:
        assert received.one("connection").lower() == "upgrade"
        assert received.one("x-user-sub") == realm.alice
        assert received.one("x-policy-obligations")


def test_other_upgrades_do_not_pass(door: Door, realm: Realm):
    """h2c smuggling: an upgraded connection would carry requests that nobody judges."""
    upgrade = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"))
    answer = door.ask("GET", "/orders/42", cookie(realm.token), *upgrade)
    assert answer.status != 101
    for received in realm.recorder.requests:
        assert received.one("upgrade") == ""


LOGIN_HOST = "auth.example.com"


def test_the_login_host_is_no_question_to_the_sidecar(realm: Realm, start_proxy, door: Door):
    pages, sidecar = Recorder(), realm.stack.listen["sidecar"]
    login = ("--login", f"{LOGIN_HOST}=127.0.0.1:{pages.port}")
    for hosts in ((), ("--host", "orders.example.com")):
        port = start_proxy(door.name, realm.recorder.port, sidecar, *login, *hosts)
        realm.recorder.requests.clear()
        pages.requests.clear()
        for host in (LOGIN_HOST, f"{LOGIN_HOST}:{port}", LOGIN_HOST.upper()):
            lies = (*SPOOFED, *SPOOFED_FORWARDED, ("X-Forwarded-For", "10.1.2.3"), ("Cookie", "catalyst_login=x"))
            answer = send(port, head("GET", "/login?return_to=http%3A%2F%2Forders.example.com%2F", *lies, host=host))
            assert answer.status == 200
            received = pages.requests.pop()
            assert received.target == "/login?return_to=http%3A%2F%2Forders.example.com%2F"
            assert (received.one("host"), received.one("cookie")) == (host, "catalyst_login=x")
            assert "10.1.2.3" not in received.one("x-forwarded-for")
            theirs = {value for _, value in (*SPOOFED, *SPOOFED_FORWARDED)}
            assert not theirs - {"https"} & {value for _, value in received.lines}
        for host in ("orders.example.com", f"x.{LOGIN_HOST}", f"{LOGIN_HOST}.evil.example.com"):
            send(port, head("GET", "/orders/42", host=host))
            send(port, head("GET", f"http://{LOGIN_HOST}/orders/42", host=host))
            send(port, head("GET", f"http://{host}/orders/42", host=LOGIN_HOST))
        # Whatever these are taken for: nobody with a session asked, so the application must not see them.
        assert realm.recorder.requests == []
    pages.close()


def test_only_named_hosts_are_taken(realm: Realm, tmp_path: Path):
    """Each program accepts the configuration for named and wildcard hosts, and for a sidecar on a Unix socket where it can."""
    checks = {
        "envoy": ["--mode", "validate", "-c", "envoy.yaml"],
        "caddy": ["validate", "--adapter", "caddyfile", "--config", "Caddyfile"],
        "nginx": ["-t", "-p", ".", "-e", "stderr", "-c", "nginx.conf"],
        "haproxy": ["-c", "-f", "haproxy.cfg"],
    }
    (tmp_path / PROXIES["haproxy"].script_file).write_text(PROXIES["haproxy"].script())
    for name, arguments in checks.items():
        proxy, here = PROXIES[name], Address("127.0.0.1", 3000)
        hosts = ("orders.example.com", "*.shop.example.com")
        for sidecar in (Address("127.0.0.1", 8787), Address(path="/run/catalyst/sidecar.sock")):
            parameters = Parameters(here, sidecar, Address("127.0.0.1", 8000), hosts, ("x-tier",))
            (tmp_path / proxy.file).write_text(proxy.render(parameters))
            done = subprocess.run([find_program(name), *arguments], check=False, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_haproxy_takes_named_hosts_and_no_others(realm: Realm, start_proxy):
    port = start_proxy("haproxy", realm.recorder.port, realm.stack.listen["sidecar"], "--host", "*.example.com")
    asked = {"orders.example.com": 200, "orders.example.com:80": 200, "a.orders.example.com": 421, "example.com": 421, "x": 421}
    assert {host: send(port, head("GET", "/public/health", host=host)).status for host in asked} == asked


def test_the_guide_to_haproxy_is_followed_as_it_is_written(realm: Realm, tmp_path: Path):
    """docs/guides/protect-an-app-behind-haproxy-or-istio.md; only addresses are put in."""
    page = (Path(__file__).parents[2] / "docs" / "guides" / "protect-an-app-behind-haproxy-or-istio.md").read_text()
    written = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    places = {"127.0.0.1:3000": f"127.0.0.1:{realm.recorder.port}", "127.0.0.1:8787": realm.stack.listen["sidecar"]}
    for there, here in {**places, "127.0.0.1:8000": f"127.0.0.1:{free_port()}"}.items():
        written = written.replace(there, here)
    programs = f"{Path(sys.executable).parent}:{Path(find_program('haproxy')).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", f"trap 'kill $(jobs -p)' EXIT\n{written}"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": programs},
    )
    assert done.returncode == 0, done.stderr
    assert "HTTP/1.1 401 " in done.stdout
    assert "x-forward-auth-error: missing_credentials" in done.stdout
    assert (tmp_path / "catalyst-istio.yaml").read_text().startswith("# Istio")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_haproxy_finds_a_sidecar_by_its_name(realm: Realm, start_proxy, host: str):
    port = start_proxy("haproxy", realm.recorder.port, f"{host}:{realm.sidecar_port}")
    assert send(port, head("GET", "/orders/42", cookie(realm.token))).status == 200


def test_haproxy_puts_in_everything_or_refuses(realm: Realm, start_proxy):
    """It drops a header for which there is no room without a word: a mask among the obligations would be gone."""
    sidecar = Impostor()
    places = ("haproxy", realm.recorder.port, f"127.0.0.1:{sidecar.port}")
    roomy = start_proxy(*places)
    narrow = start_proxy(*places, change=lambda text: text.replace("65536", "1024").replace("131072", "65536"))
    said = "".join(f"{name}: {'x' * 4500}\r\n" for name in IDENTITY_HEADERS if name != "x-catalyst-revision")
    sidecar.raw = f"HTTP/1.1 200 OK\r\nx-catalyst-revision: 1\r\n{said}Content-Length: 0\r\n\r\n".encode()
    realm.recorder.requests.clear()
    asked = head("GET", "/orders/42", ("x-large", "y" * 30_000))
    refused = send(narrow, asked)
    assert (refused.status, refused.reason, realm.recorder.requests) == (503, "headers_too_large", [])
    assert send(roomy, asked).status == 200
    assert {len(realm.recorder.requests[0].one(name)) for name in IDENTITY_HEADERS if name != "x-catalyst-revision"} == {4500}
    sidecar.close()


def test_haproxy_takes_no_200_for_an_answer_that_is_not_the_sidecars(realm: Realm, start_proxy):
    sidecar = Impostor()
    port = start_proxy("haproxy", realm.recorder.port, f"127.0.0.1:{sidecar.port}")
    realm.recorder.requests.clear()
    sidecar.raw = b"HTTP/1.1 200 OK\r\nx-user-sub: root\r\nContent-Length: 0\r\n\r\n"
    answer = send(port, head("GET", "/orders/42"))
    sidecar.close()
    assert (answer.status, answer.reason, realm.recorder.requests) == (503, "sidecar_unavailable", [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"hosts": ("a.example.com; return 200",)},
        {"hosts": ("A.example.com",)},
        {"hosts": ("a`) || PathPrefix(`/",)},
        {"headers": ("x-tier\n x",)},
        {"headers": ("x_tier",)},
        {"login": Login("a.example.com", Address(path="/run/login.sock"))},
        {"login": Login("a.example.com", Address("127.0.0.1", 1)), "hosts": ("a.example.com",)},
    ],
)
def test_nothing_can_be_written_into_a_configuration(wrong: dict):
    here = Address("127.0.0.1", 1)
    with pytest.raises(OperatorError):
        Parameters(here, here, here, **wrong)


@pytest.mark.parametrize(
    "text", ["a.example.com", "a.example.com=", "*.example.com=a:1", "A.example.com=a:1", "a{=a:1", "a=a;b:80"]
)
def test_login_hosts_that_are_none(text: str):
    with pytest.raises(OperatorError):
        Login.parse(text)


@pytest.mark.parametrize("text", ["localhost", "127.0.0.1:", "a b:1", "unix:relative", "unix:/a b", "x:70000", "a;b:80", ":80"])
def test_addresses_that_are_none(text: str):
    with pytest.raises(OperatorError):
        Address.parse(text)


def test_traefik_cannot_ask_over_a_unix_socket():
    here = Address("127.0.0.1", 1)
    with pytest.raises(OperatorError, match="TCP"):
        PROXIES["traefik"].render(Parameters(here, Address(path="/run/sidecar.sock"), here))


def test_recorder_counts_every_spelling():
    """The instrument itself: a header that comes under two spellings must not look like one."""
    recorder = Recorder()
    assert send(recorder.port, head("GET", "/", ("X_User_Sub", "a"), ("X-User-Sub", "b"))).status == 200
    assert recorder.requests[0].all("x-user-sub") == ["a", "b"]
    recorder.close()
