"""A client with a life of its own, and a browser's part of a login."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import httpx2

from control_plane.oidc import Claims, Client, Provider, Start
from control_plane.outbound import Outbound

BACK = "https://auth.example.com/login/callback/1"
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
Result = TypeVar("Result")


def run(work: Callable[[Client], Awaitable[Result]], *, total_seconds: float = 5.0) -> Result:
    """Something done with a client of its own."""

    async def main() -> Result:
        outbound = Outbound(LOOPBACK, total_seconds=total_seconds)
        try:
            return await work(Client(outbound))
        finally:
            await outbound.aclose()

    return asyncio.run(main())


async def at_the_provider(start: Start) -> dict[str, str]:
    """What a browser brings back."""
    async with httpx2.AsyncClient() as browser:
        answer = await browser.get(start.url)
    assert answer.headers.get("location", "").startswith(BACK), answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


async def log_in(client: Client, provider: Provider, **asked: Any) -> Claims:
    """The whole way."""
    start = await client.begin(provider, BACK, login_hint="alice", **asked)
    back = await at_the_provider(start)
    kept = {"state": start.state, "nonce": start.nonce, "verifier": start.verifier}
    return await client.finish(provider, BACK, back, **kept, max_age=asked.get("max_age"))
