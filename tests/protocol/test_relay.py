"""`/.catalyst/` on an application's host: the sidecar answers it, with what the control plane says, over real sockets."""

import asyncio
from typing import Any

import pytest

from tests.protocol.relay_end import RelayEnd, exchange, listening, relay_end
from tests.protocol.world import World, question, raw, token
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


def run(data: bytes, said: Any = None, **world: Any) -> tuple[list[tuple[int, list[tuple[str, str]], bytes]], RelayEnd, World]:
    written, end, here = asyncio.run(ask(data, said, **world))
    return answers(written), end, here


def test_a_login_path_is_answered_with_what_the_control_plane_says():
    said = {
        "status": 303,
        "location": "https://login.example.com/login?challenge=c",
        "cookies": [
            "__Secure-catalyst_binding=n; Path=/.catalyst/; HttpOnly; Secure; SameSite=Lax",
            "catalyst_session=; Max-Age=0",
        ],
        "headers": {"Content-Security-Policy": "default-src 'none'", "x-user-sub": "root", "Server": "liar"},
    }
    url = f"{HOST}:8443/.catalyst/start?return_to=%2Fa&b"
    cookie = "theme=dark; __Secure-catalyst_binding=n; __Host-catalyst_session=t; other=1; catalyst_refresh=r"
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
        "cookies": {"__Secure-catalyst_binding": "n", "__Host-catalyst_session": "t", "catalyst_refresh": "r"},
        "headers": {"origin": "https://a", "user-agent": "Mozilla"},
    }
    claims = errand.claims(world)
    assert len(claims.pop("jti")) > 20
    assert claims == {
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


# --- the nginx dialect --------------------------------------------------------------------------------------------------------------


def of_nginx(url: str, path: str = "/forward-auth/nginx/refusal", method: str = "GET", **headers: str) -> bytes:
    lines = {"Host": "auth", "X-Original-Method": method, "X-Original-URL": url, "X-Forwarded-For": "198.51.100.7"}
    return raw(f"GET {path} HTTP/1.1", lines | {name.replace("_", "-"): value for name, value in headers.items()})


def test_nginx_has_refusals_told_in_full_where_its_question_cannot():
    world = World(relay_url="http://127.0.0.1:1")
    asked = {"accept": "text/html", "sec_fetch_mode": "navigate"}
    url = f"{HOST}/me?x=1"
    (question,) = answers(plainly(world, of_nginx(url, "/forward-auth/nginx", **asked)))
    (refusal,) = answers(plainly(world, of_nginx(url, **asked)))
    assert (question[0], refusal[0]) == (401, 302)
    assert dict(refusal[1])["location"].endswith("&return_to=https%3A%2F%2Forders.example.com%2Fme%3Fx%3D1")


@pytest.mark.parametrize("target", ["/public/x?a=%2f&b", "/public/%C3%A9", "/public/\xe9"])
def test_nginx_is_sent_back_where_nothing_is_refused_any_more(target):
    """Never a 2xx, never an identity header: nothing can pass here."""
    world = World()
    ((status, headers, body),) = answers(plainly(world, of_nginx(HOST + ":8443" + target, authorization=f"Bearer {token()}")))
    assert (status, body) == (307, b"")
    assert dict(headers)["location"] == HOST + ":8443" + target.replace("\xe9", "%C3%A9")
    assert headers == [
        ("location", dict(headers)["location"]),
        ("content-length", "0"),
        ("cache-control", "no-store"),
        ("x-catalyst-revision", "7"),
    ]
    assert not world.samples.draw()


def plainly(world: World, data: bytes) -> bytes:
    """What a connection answers at once."""
    return ask_at_once(world, data)
