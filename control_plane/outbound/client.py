"""Few questions to many places: identity providers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpcore2

from control_plane.outbound.addresses import Code, OutboundRefused, Resolve, check_url, resolve
from control_plane.outbound.guard import FAILURES, Guard, believing, refusal
from control_plane.outbound.streams import allow
from control_plane.settings import Network

MAX_BODY_BYTES: Final = 1024 * 1024
TOTAL_SECONDS: Final = 5.0
_CONNECTIONS: Final = 200
_OF_ONE: Final = 40
"""Connections to one place: whoever does not answer holds up those who wait for them, and nobody else."""
_KEEPALIVE_SECONDS: Final = 15.0
_OF_TLS: Final[Mapping[Code, Code]] = {
    "certificate_expired": "insecure",
    "certificate_name": "insecure",
    "certificate_untrusted": "insecure",
    "client_certificate": "unreachable",
    "tls_refused": "unreachable",
}
"""Whoever asks here is told no more of TLS."""
_SETTING: Final = "CATALYST_OUTBOUND_NETWORKS"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side answered, whatever its status. `headers` by lower-case name; `body` at most as long as was allowed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outbound:
    """The client. One for each event loop; `aclose` ends its idle connections."""

    def __init__(
        self,
        networks: Sequence[Network] = (),
        *,
        resolver: Resolve = resolve,
        max_body_bytes: int = MAX_BODY_BYTES,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        limits: dict[str, Any] = {
            "max_connections": _CONNECTIONS,
            "keepalive_expiry": _KEEPALIVE_SECONDS,
            "ssl_context": believing(None),
        }
        # Plain http goes to networks that the operator named and nowhere else.
        self._pools = {
            "https": httpcore2.AsyncConnectionPool(
                network_backend=Guard(networks, resolver, tls=True, setting=_SETTING), **limits
            ),
            "http": httpcore2.AsyncConnectionPool(
                network_backend=Guard(networks, resolver, tls=False, setting=_SETTING), **limits
            ),
        }
        self._max_body_bytes, self._total_seconds = max_body_bytes, total_seconds
        # Kept while somebody waits or is answered there.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for something. OutboundRefused where there is no answer."""
        return await self.send("GET", url, headers or {}, b"")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send something. OutboundRefused where there is no answer, which does not mean that nothing arrived."""
        return await self.send("POST", url, headers, body)

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One request, one answer, nothing followed."""
        pool = self._pools[check_url(url)]
        sent = {"accept-encoding": "identity", "user-agent": "catalyst-auth", **headers}
        turn = self._turns.setdefault(urlsplit(url).netloc.lower(), asyncio.Semaphore(_OF_ONE))
        try:
            async with asyncio.timeout(self._total_seconds), turn:
                return await self._exchange(pool, method, url, list(sent.items()), body)
        except FAILURES as problem:
            refused = refusal(problem, self._total_seconds)
            raise OutboundRefused(_OF_TLS.get(refused.code, refused.code), refused.detail) from None

    async def _exchange(
        self, pool: httpcore2.AsyncConnectionPool, method: str, url: str, headers: list[tuple[str, str]], body: bytes
    ) -> Answer:
        """Read the answer as far as it is allowed to go; what is longer closes the connection."""
        async with pool.stream(method, url, headers=headers, content=body) as response:
            # With as much around it again, as chunks have.
            allow(response, 2 * self._max_body_bytes)
            read = bytearray()
            async for chunk in response.aiter_stream():
                read += chunk
                if len(read) > self._max_body_bytes:
                    raise OutboundRefused("too_large", f"The answer is longer than {self._max_body_bytes} bytes.")
            named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, named, bytes(read))

    async def aclose(self) -> None:
        """End the idle connections."""
        for pool in self._pools.values():
            await pool.aclose()
