"""`/.catalyst/` on an application's host: the sidecar answers it, with what the control plane says, over real sockets."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.contract import IDENTITY_HEADERS, LOGIN_ACTIONS
from sidecar.http.listener import Listener
from sidecar.http.protocol import CheckProtocol
from sidecar.relay.client import LARGEST
from sidecar.relay.relay import MOST, MOST_OF_ONE
from tests.protocol.authority import Authority
from tests.protocol.relay_end import RelayEnd, exchange, listening, relay_end, whole
from tests.protocol.world import FakeTransport, World, question, raw, token
from tests.protocol.world import ask as ask_at_once

HOST = "https://orders.example.com"


def answers(data: bytes) -> list[tuple[int, list[tuple[str, str]], bytes]]:
    """Every answer in `data`: status, headers in order, body."""
    found = []
    while data:
        top, end, data = data.partition(b"\r\n\r\n")
        assert end, top
        first, *lines = top.decode("ascii").split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        length = int(dict(headers)["content-length"])
        assert len(data) >= length
        found.append((int(first.split(" ")[1]), headers, data[:length]))
        data = data[length:]
    return found


async def ask(data: bytes, said: Any = None, **world: Any) -> tuple[bytes, RelayEnd, World]:
    async with relay_end() as end:
        if said is not None:
            end.said = said
        here = World(**({"relay_url": end.url} | world))
        async with listening(here) as (_, port):
            return await exchange(port, data), end, here


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (what it waits for is no task of ours)
        await asyncio.sleep(0.01)


def run(data: bytes, said: Any = None, **world: Any) -> tuple[list[tuple[int, list[tuple[str, str]], bytes]], RelayEnd, World]:
    written, end, here = asyncio.run(ask(data, said, **world))
    return answers(written), end, here


def test_a_login_path_is_answered_with_what_the_control_plane_says():
    said = {
        "status": 303,
        "location": "https://login.example.com/login?challenge=c",
        "cookies": [
            "__Host-catalyst_binding=n; Path=/; HttpOnly; Secure; SameSite=Lax",
            "catalyst_session=; Max-Age=0",
        ],
        "headers": {"Content-Security-Policy": "default-src 'none'", "x-user-sub": "root", "Server": "liar"},
    }
    url = f"{HOST}:8443/.catalyst/start?return_to=%2Fa&b"
    cookie = "theme=dark; __Host-catalyst_binding=n; __Host-catalyst_session=t; other=1; catalyst_refresh=r"
    ((status, headers, body),), end, world = run(
        question(
            "GET", url, cookie=cookie, origin="https://a", user_agent="Mozilla", x_request_id="abc", authorization="Bearer x"
        ),
        said,
    )
    assert (status, body) == (303, b"")
    assert [value for name, value in headers if name == "set-cookie"] == said["cookies"]
    named = dict(headers)
    assert (named["location"], named["x-request-id"], named["cache-control"]) == (said["location"], "abc", "no-store")
    assert named["x-catalyst-revision"] == "7"
    assert not {"x-user-sub", "server", "x-other"} & named.keys()
    (errand,) = end.asked
    assert errand.path == "/relay/start"
    assert errand.body == {
        "query": "return_to=%2Fa&b",
        "cookies": {"__Host-catalyst_binding": "n", "__Host-catalyst_session": "t", "catalyst_refresh": "r"},
        "headers": {"origin": "https://a", "user-agent": "Mozilla"},
    }
    claims = errand.claims(world)
    assert len(claims.pop("jti")) > 20
    assert claims == {
        "settings": {},
        "iss": "catalyst-sidecar",
        "sub": "00000000-0000-0000-0000-000000000063",
        "aud": "catalyst-login",
        "iat": 1_800_000_000,
        "exp": 1_800_000_030,
        "method": "GET",
        "scheme": "https",
        "host": "orders.example.com",
        "port": "8443",
        "address": "198.51.100.7",
        "cookie": "catalyst_session",
        "prefix": True,
    }


PLACE = f"{HOST}/.catalyst/refresh?return_to=%2Fa"
OPEN = {
    "version": 1,
    "rules": [
        {"id": "open", "effect": "allow", "paths": ["/**"], "when": {"anonymous": True}, "allow_ambiguous": ["//", "%2f", ";"]}
    ],
}


def opened(**more: Any) -> World:
    """A world whose policy lets everybody everywhere."""
    world = World(**more)
    world.change(("policies", "u", {"application_id": "00000000-0000-0000-0000-000000000047", "version": 2, "document": OPEN}))
    return world


def at_once(world: World, data: bytes) -> list[tuple[int, list[tuple[str, str]], bytes]]:
    """What a connection answers without waiting."""
    return answers(ask_at_once(world, data))


# --- which paths --------------------------------------------------------------------------------------------------------------------


def asking(dialect: str, target: str, host: str = "orders.example.com", **headers: str) -> bytes:
    """A question in a dialect."""
    common = {"X-Forwarded-For": "198.51.100.7"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if dialect == "envoy":
        return raw(f"GET /forward-auth/envoy{target} HTTP/1.1", {"Host": host, "X-Forwarded-Proto": "https"} | common)
    if dialect.startswith("nginx"):
        lines = {"Host": "auth", "X-Original-Method": "GET", "X-Original-URL": f"https://{host}{target}"}
        return raw(f"GET /forward-auth/{dialect} HTTP/1.1", lines | common)
    lines = {"X-Forwarded-Method": "GET", "X-Forwarded-Proto": "https", "X-Forwarded-Host": host, "X-Forwarded-Uri": target}
    return raw(f"GET /forward-auth/{dialect} HTTP/1.1", {"Host": "auth"} | lines | common)


DIALECTS = ("traefik", "caddy", "haproxy", "envoy", "nginx", "nginx/refusal")


def test_every_action_is_asked_for_in_every_dialect_that_can_show_the_answer():
    async def scenario() -> None:
        async with relay_end() as end:
            async with listening(opened(relay_url=end.url)) as (_, port):
                for dialect in DIALECTS:
                    for action in LOGIN_ACTIONS:
                        ((status, headers, _),) = answers(await exchange(port, asking(dialect, f"/.catalyst/{action}")))
                        if dialect == "nginx":
                            assert (status, dict(headers)["x-forward-auth-error"]) == (403, "no_such_login_path")
                        else:
                            assert (status, end.asked.pop().path) == (303, f"/relay/{action}")
            assert not end.asked

    asyncio.run(scenario())


OURS = [
    "/.catalyst",
    "/.catalyst/",
    "/.catalyst/other",
    "/.catalyst/start/",
    "/.catalyst/start/x",
    "/.catalyst/Start",
    "/.Catalyst/start",
    "/.CATALYST/start",
    "/%2ecatalyst/start",
    "/%2Ecatalyst/start",
    "/.catalys%74/start",
    "/.catalyst/%73tart",
    "//.catalyst/start",
    "/.catalyst//start",
    "/.catalyst;x/start",
    "/.catalyst%2fstart",
    "/.catalyst%2Fstart",
    "/.catalyst/start;x",
    "/%20.catalyst/start",
    "/.catalyst%20/start",
    "/%EF%BC%8Ecatalyst/start",
    "/.catal%EF%BD%99st/start",
    "/.catalyst?x",
    "/.catalyst.",
]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_an_application_could_take_for_ours_is_nobodys(dialect):
    """The control plane is asked for the very spelling only; all others end here, whatever the policy says."""
    world = opened(relay_url="http://127.0.0.1:1")
    for target in OURS:
        ((status, headers, _),) = at_once(world, asking(dialect, target))
        assert (status, dict(headers)["x-forward-auth-error"]) == (403 if dialect == "nginx" else 404, "no_such_login_path"), (
            target
        )
    assert world.metrics.relays == {}


@pytest.mark.parametrize(
    "target", ["/x/.catalyst/start", "/.catalystic/start", "/.catalyst-docs", "/catalyst/start", "/x?/.catalyst/start"]
)
def test_other_paths_are_the_policys_business(target):
    assert at_once(opened(relay_url="http://127.0.0.1:1"), asking("traefik", target))[0][0] == 200


def test_an_unknown_host_has_no_login():
    world = opened(relay_url="http://127.0.0.1:1")
    ((status, headers, _),) = at_once(world, asking("traefik", "/.catalyst/start", "other.example.com"))
    assert (status, dict(headers)["x-forward-auth-error"]) == (403, "unknown_host")


def test_an_application_without_a_policy_has_a_login():
    (found, *_), end, _ = run(asking("traefik", "/.catalyst/start", "draft.example.com"))
    assert (found[0], len(end.asked)) == (303, 1)


def test_without_a_control_plane_the_paths_lead_nowhere():
    for action in LOGIN_ACTIONS:
        ((status, headers, _),) = at_once(opened(), asking("traefik", f"/.catalyst/{action}"))
        assert (status, dict(headers)["x-forward-auth-error"]) == (404, "no_such_login_path")


TARGETS = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            [
                "/.catalyst/",
                "/",
                ".catalyst",
                "start",
                "refresh",
                "callback",
                "logout",
                "%2e",
                "%2f",
                ";",
                "//",
                "..",
                "%00",
                "\\",
                "?",
                "#",
                "é",
                "%25",
                "%2E",
            ]
        )
        | st.text(max_size=3),
        max_size=6,
    ),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "cookie",
            "authorization",
            "x-api-key",
            "accept",
            "sec-fetch-mode",
            "origin",
            "user-agent",
            "accept-language",
            "x-request-id",
        ]
    ),
    st.text(max_size=20)
    | st.sampled_from(["catalyst_session=x; catalyst_session=y", "catalyst_refresh=\xff", "navigate", "text/html"]),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(DIALECTS), TARGETS, HEADERS)
def test_no_bytes_make_a_login_path_an_allow(dialect, rest, headers):
    """Whatever follows, whatever comes with it; the policy would let everybody everywhere, and nobody is asked."""
    world = opened()
    data = asking(dialect, "/.catalyst/" + rest.replace("\r", "").replace("\n", ""), **headers)
    written = ask_at_once(world, data)
    assert written.startswith(b"HTTP/1.1 4")
    assert b"HTTP/1.1 2" not in written
    assert b"x-user-sub" not in written


# --- a control plane that does not do as it should ------------------------------------------------------------------------------------


async def _silent(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def _dripping(writer: asyncio.StreamWriter) -> None:
    for byte in whole({"status": 303, "location": "/"}):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def _closing(writer: asyncio.StreamWriter) -> None:
    writer.write(whole({"status": 303, "location": "/"})[:-5])


async def _resetting(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
        await writer.drain()


async def _endless_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.transport.is_closing():
        writer.write(b"x: " + b"y" * 4096 + b"\r\n")
        await writer.drain()


GOOD = {"status": 303, "location": "/"}
FAULTS: dict[str, tuple[str, bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]]] = {
    "nothing": ("timeout", _silent),
    "a byte at a time": ("timeout", _dripping),
    "closes in between": ("unusable", _closing),
    "resets": ("unusable", _resetting),
    "never ends": ("unusable", _endless),
    "a head without end": ("unusable", _endless_head),
    "too large": ("unusable", whole({**GOOD, "body": "x" * LARGEST})),
    "status 200": ("unusable", whole({"status": 200, "body": "come in"})),
    "an allow": ("unusable", b"HTTP/1.1 200 OK\r\nx-user-sub: root\r\ncontent-length: 0\r\n\r\n"),
    "another status": ("unusable", whole(GOOD, status=401)),
    "no content": ("unusable", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a continue": ("unusable", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "an upgrade": ("unusable", b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nPRI"),
    "not HTTP": ("unusable", b"SSH-2.0-OpenSSH_9.2\r\n"),
    "two lengths": ("unusable", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
    "a page": ("unusable", whole(b"<!doctype html>", media_type="text/html")),
    "a header in a header": ("unusable", whole({**GOOD, "location": "/x\r\nx-user-sub: root"})),
    "a header in a cookie": ("unusable", whole({**GOOD, "cookies": ["catalyst_session=x\r\nx-user-sub: root"]})),
    "a cookie of the application's": ("unusable", whole({**GOOD, "cookies": ["session=x"]})),
    "another scheme": ("unusable", whole({**GOOD, "location": "javascript:alert(1)"})),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("person", [False, True])
def test_nothing_of_a_lying_control_plane_comes_through(name, person):
    result, fault = FAULTS[name]

    async def scenario() -> None:
        async with relay_end() as end:
            end.raw, end.answering = (fault, None) if isinstance(fault, bytes) else (None, fault)
            world = opened(relay_url=end.url, relay_seconds=0.3)
            headers = {"accept": "text/html", "sec_fetch_mode": "navigate"} if person else {}
            async with listening(world) as (_, port):
                written = await exchange(port, question(url=PLACE, x_request_id="abc", **headers) + question(url=f"{HOST}/x"))
            (status, lines, body), following = answers(written)
            named = dict(lines)
            assert (status, named["x-forward-auth-error"], named["retry-after"]) == (503, "internal_error", "1")
            assert (named["x-request-id"], following[0]) == ("abc", 200)
            assert not set(named) & (set(IDENTITY_HEADERS) - {"x-catalyst-revision"} | {"set-cookie", "location"})
            assert (b"<!doctype html>" in body and b"abc" in body) if person else json.loads(body) == {"error": "internal_error"}
            assert world.metrics.relays == {("refresh", result): 1}
            assert world.relay.under_way == 0

    asyncio.run(scenario())


def test_a_control_plane_that_is_not_there():
    found, _, world = run(question(url=PLACE), relay_url="http://127.0.0.1:9")
    assert (found[0][0], world.metrics.relays) == (503, {("refresh", "unreachable"): 1})


@pytest.mark.parametrize("who", ["ours", "a stranger", "another host"])
def test_the_control_plane_shows_its_certificate(monkeypatch, tmp_path, who):
    authority = Authority(tmp_path)
    (tmp_path / "other").mkdir()
    signer = Authority(tmp_path / "other") if who == "a stranger" else authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*signer.issue("control"))
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)

    async def scenario() -> None:
        async with relay_end(context) as end:
            url = end.url.replace("localhost", "127.0.0.1") if who == "another host" else end.url
            world = World(relay_url=url)
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the relay end's, of handshakes that fail
            async with listening(world) as (_, port):
                ((status, _, _),) = answers(await exchange(port, question(url=PLACE)))
            result = "answered" if who == "ours" else "unreachable"
            assert (status, world.metrics.relays) == (303 if who == "ours" else 503, {("refresh", result): 1})
            assert len(end.asked) == (who == "ours")

    asyncio.run(scenario())


def test_what_came_of_errands_is_counted_and_is_no_decision():
    (found, *_), _, world = run(question(url=PLACE))
    text = world.metrics.text().decode()
    assert found[0] == 303
    assert 'login_relays_total{action="refresh",result="answered"} 1\n' in text
    assert 'forward_auth_requests_total{route="/.catalyst",status="303"} 1\n' in text
    assert "forward_auth_decisions_total{" not in text


# --- order, bounds, ends ------------------------------------------------------------------------------------------------------------


def test_requests_behind_one_that_waits_are_answered_in_order():
    """Two of them wait themselves, one for a revision that does not come."""
    data = (
        question(url=PLACE, x_request_id="1", user_agent="x")
        + question(url=f"{HOST}/public/a")
        + question(url=f"{HOST}/me", x_request_id="3")
        + question(url=PLACE, x_request_id="4", x_catalyst_min_revision="7")
        + question(url=f"{HOST}/me", x_request_id="5", x_catalyst_min_revision="99")
        + question(url=PLACE, x_request_id="6")
        + question(url=f"{HOST}/.catalyst/nowhere", x_request_id="7")
    )
    found, end, _ = run(data)
    assert [status for status, _, _ in found] == [303, 200, 401, 303, 503, 303, 404]
    assert [dict(headers).get("x-request-id") for _, headers, _ in found] == ["1", None, "3", "4", "5", "6", "7"]
    assert len(end.asked) == 3


def test_the_end_of_a_connection_is_kept_to():
    data = question(url=PLACE, connection="close") + question(url=f"{HOST}/public/a")
    found, _, _ = run(data)
    assert [(status, dict(headers).get("connection")) for status, headers, _ in found] == [(303, "close")]


@pytest.mark.parametrize(
    "broken", [b"x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET / ", b"\x00", b"GET /" + b"a" * 40_000]
)
@pytest.mark.parametrize("waits", [{}, {"x_catalyst_min_revision": "99"}])
def test_a_broken_request_behind_one_that_waits_is_refused_after_it(broken, waits):
    """Answered at once, the refusal would be taken for the answer to the one that waits."""
    first = question(url=f"{HOST}/me", x_request_id="1", **waits) if waits else question(url=PLACE, x_request_id="1")
    found, _, _ = run(first + question(url=f"{HOST}/public/a") + broken)
    assert [status for status, _, _ in found] == [503 if waits else 303, 200, 400]
    assert [dict(headers).get("connection") for _, headers, _ in found] == [None, None, "close"]


def test_head_is_answered_without_a_body():
    said = {"status": 404, "body": "a page", "content_type": "text/plain; charset=utf-8"}
    written, _, _ = asyncio.run(ask(asking("envoy", "/.catalyst/start").replace(b"GET", b"HEAD"), said))
    assert b"content-length: 6\r\n" in written
    assert written.endswith(b"\r\n\r\n")


def test_only_so_many_are_on_their_way_and_fewer_for_one_client():
    async def scenario() -> None:
        async with relay_end() as end:
            go = asyncio.Event()

            async def wait(writer: asyncio.StreamWriter) -> None:
                await go.wait()
                writer.write(whole(GOOD))

            end.answering = wait
            world = World(relay_url=end.url)
            async with listening(world) as (_, port):
                clients = ["198.51.100.7"] * MOST + ["198.51.100.8"] * MOST + ["198.51.100.9"]
                asked = [asyncio.create_task(exchange(port, question(url=PLACE, client=client))) for client in clients]
                refused = ("refresh", "refused")
                await until(lambda: len(end.asked) == MOST and world.metrics.relays[refused] == len(clients) - MOST)
                assert world.relay.under_way == len(end.asked) == MOST
                # Checks are answered all the while.
                ((status, _, _),) = answers(await exchange(port, question(url=f"{HOST}/public/a")))
                assert status == 200
                go.set()
                statuses = [answers(await each)[0][0] for each in asked]
            assert statuses.count(303) == MOST
            assert [statuses[:MOST].count(303), statuses[MOST : 2 * MOST].count(303)] == [MOST_OF_ONE, MOST - MOST_OF_ONE]
            assert statuses.count(503) == len(clients) - MOST
            assert world.relay.under_way == 0

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_its_place():
    async def scenario() -> None:
        async with relay_end() as end:
            end.answering = _silent
            world = World(relay_url=end.url)
            async with listening(world) as (listener, port):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(question(url=PLACE))
                await until(lambda: bool(end.asked))
                (connection,) = listener.connections
                connection.abort()
                await until(lambda: not world.relay.under_way)
                writer.close()

    asyncio.run(scenario())


def test_a_client_that_leaves_at_once_is_not_asked_for():
    async def scenario() -> None:
        async with relay_end() as end:
            world = World(relay_url=end.url)
            transport = FakeTransport()
            connection = CheckProtocol(Listener(world.check, world.replica, world.trusted.admits, world.relay))
            connection.connection_made(cast("asyncio.BaseTransport", transport))
            connection.data_received(question(url=PLACE))
            connection.connection_lost(None)
            await asyncio.sleep(0.1)
            assert (end.asked, world.relay.under_way, transport.written) == ([], 0, b"")

    asyncio.run(scenario())


def test_somebody_who_keeps_failing_is_not_relayed():
    world = World(relay_url="http://127.0.0.1:1")
    for _ in range(61):
        at_once(world, question(url=f"{HOST}/me", x_api_key="x"))
    ((status, headers, _),) = at_once(world, question(url=PLACE))
    assert (status, dict(headers)["x-forward-auth-error"], dict(headers)["retry-after"]) == (429, "too_many_failures", "60")
    assert world.metrics.relays == {}


@pytest.mark.parametrize("name", ["catalyst_session", "__Host-catalyst_session", "__Secure-catalyst_refresh", "catalyst_binding"])
def test_a_cookie_that_comes_twice_is_refused(name):
    ((status, headers, _),) = at_once(
        World(relay_url="http://127.0.0.1:1"), question(url=PLACE, cookie=f"{name}=a; x=y; {name}=a")
    )
    assert (status, dict(headers)["x-forward-auth-error"]) == (400, "malformed_request")


def test_nothing_of_it_is_kept():
    async def scenario() -> None:
        async with relay_end() as end:
            world = World(relay_url=end.url)
            async with listening(world) as (_, port):
                for number in range(3):
                    end.said = {"status": 303, "location": f"/{number}"}
                    ((_, headers, _),) = answers(await exchange(port, question(url=PLACE, x_request_id="1")))
                    assert dict(headers)["location"] == f"/{number}"
            assert (world.check._answers.young, world.check.heads.young) == ({}, {})

    asyncio.run(scenario())


def test_a_stale_sidecar_asks_nobody():
    world = World(relay_url="http://127.0.0.1:1")
    world.age = 31
    assert [(status, dict(headers)["x-forward-auth-error"]) for status, headers, _ in at_once(world, question(url=PLACE))] == [
        (503, "stale")
    ]


# --- the nginx dialect --------------------------------------------------------------------------------------------------------------


def of_nginx(url: str, path: str = "/forward-auth/nginx/refusal", method: str = "GET", **headers: str) -> bytes:
    lines = {"Host": "auth", "X-Original-Method": method, "X-Original-URL": url, "X-Forwarded-For": "198.51.100.7"}
    return raw(f"GET {path} HTTP/1.1", lines | {name.replace("_", "-"): value for name, value in headers.items()})


def test_nginx_has_refusals_told_in_full_where_its_question_cannot():
    world = World(relay_url="http://127.0.0.1:1")
    asked = {"accept": "text/html", "sec_fetch_mode": "navigate"}
    url = f"{HOST}/me?x=1"
    (question,) = answers(ask_at_once(world, of_nginx(url, "/forward-auth/nginx", **asked)))
    (refusal,) = answers(ask_at_once(world, of_nginx(url, **asked)))
    assert (question[0], refusal[0]) == (401, 302)
    assert dict(refusal[1])["location"].endswith("&return_to=https%3A%2F%2Forders.example.com%2Fme%3Fx%3D1")


@pytest.mark.parametrize("target", ["/public/x?a=%2f&b", "/public/%C3%A9", "/public/\xe9"])
def test_nginx_is_sent_back_where_nothing_is_refused_any_more(target):
    """Never a 2xx, never an identity header: nothing can pass here."""
    world = World()
    ((status, headers, body),) = answers(ask_at_once(world, of_nginx(HOST + ":8443" + target, authorization=f"Bearer {token()}")))
    assert (status, body) == (307, b"")
    assert dict(headers)["location"] == HOST + ":8443" + target.replace("\xe9", "%C3%A9")
    assert headers == [
        ("location", dict(headers)["location"]),
        ("content-length", "0"),
        ("cache-control", "no-store"),
        ("x-catalyst-revision", "7"),
    ]
    assert not world.samples.draw()
