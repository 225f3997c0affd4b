"""One process that answers checks: its parts put together, its listeners, its end."""

import asyncio
import logging
import signal
import socket
import time
from contextlib import suppress
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidecar.check import Check, Login, Parts
from sidecar.explain import Explain
from sidecar.http.failures import Failures
from sidecar.http.listener import Listener
from sidecar.http.protocol import CheckProtocol
from sidecar.http.trust import TrustedProxies
from sidecar.identity.assertion import Assertions
from sidecar.identity.session_token import SessionTokens
from sidecar.listening import bound_address, tls_context
from sidecar.logs import fields
from sidecar.metrics import MEDIA_TYPE, Metrics
from sidecar.ops import Ops, Request, Response, as_json
from sidecar.relay.relay import Relay
from sidecar.replica.feed import Feed, FeedSettings
from sidecar.replica.live import Replica, clock
from sidecar.samples import Samples
from sidecar.settings import Settings

log: Final = logging.getLogger(__name__)

BACKLOG: Final = 1024
HANDSHAKE_SECONDS: Final = 5.0
"""How long a peer may take for its TLS handshake; before it has ended, nobody knows of the connection but the kernel."""
SWEEP_SECONDS: Final = 1.0
FIRST_READ_SECONDS: Final = 5.0
QUIET_SECONDS: Final = 1.0
"""A drain is over when no request has come for this long."""


class Server:
    """The composition root: a replica, the feed that keeps it fresh, the check, two listeners."""

    def __init__(self, settings: Settings, worker: str = "") -> None:
        self._settings = settings
        self.replica = Replica(settings.max_staleness)
        samples = Samples(settings.decision_sample)
        self.metrics = Metrics(self.replica, worker, samples)
        trusted = TrustedProxies(settings.trusted_proxies)
        self._failures = Failures(trusted, time.monotonic)
        assertions = Assertions(settings.issuer, Ed25519PrivateKey.generate())
        parts = Parts(
            self.replica,
            trusted,
            SessionTokens(settings.issuer),
            assertions,
            self._failures,
            self.metrics,
            samples,
            time.time,
            clock,
        )
        self.check = Check(
            parts,
            max_staleness=settings.max_staleness,
            serve_stale=settings.serve_stale,
            login=Login(settings.login_url, settings.session_cookie, relays=bool(settings.login_relay_url)),
        )
        scope = frozenset(settings.applications) or None
        followed = FeedSettings(settings.database_url, scope, settings.max_staleness)
        self.feed = Feed(self.replica, followed, assertions.jwk, samples)
        shared = {"CATALYST_LOGIN_URL": settings.login_url, "CATALYST_ISSUER": settings.issuer}
        identity = (self.feed.sidecar_id, assertions)
        self._relay = Relay(settings.login_relay_url, *identity, self.metrics, time.time, shared=shared)
        self.listener = Listener(self.check, self.replica, trusted.admits, self._relay)
        explain = Explain(self.check, lambda: self.replica.state, time.time)
        self._ops = Ops(
            {
                ("GET", "/healthz"): self._healthz,
                ("GET", "/readyz"): self._readyz,
                ("GET", "/metrics"): self._metrics,
                ("POST", "/explain"): explain.answer,
            }
        )

    async def run(self, check_socket: socket.socket, ops_socket: socket.socket, leash: int | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then drain. A worker also ends when its supervisor's end of `leash` closes.

        Raises `CannotStart`, and `DatabaseUnusable` where the feed finds at its start that it never will be able to read.
        """
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        if leash is not None:
            loop.add_reader(leash, _let_go, leash, ending)
        feed = asyncio.create_task(self.feed.run(), name="feed")
        context = tls_context(self._settings.tls)
        if leash is not None:
            await self._wait_for_the_first_read()
        checks = await loop.create_server(
            lambda: CheckProtocol(self.listener),
            sock=check_socket,
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
        )
        ops = await asyncio.start_server(self._ops.connected, sock=ops_socket)
        sweeper = asyncio.create_task(self._sweep(), name="sweeper")
        log.info("listening", extra=fields(check=str(bound_address(check_socket)), ops=str(bound_address(ops_socket))))
        feed.add_done_callback(lambda _: ending.set())
        try:
            await ending.wait()
            if feed.done():
                feed.result()
            await self._drain(checks)
        finally:
            for task in (sweeper, feed):
                task.cancel()
            await asyncio.gather(sweeper, feed, return_exceptions=True)
            checks.close()
            ops.close()

    async def _wait_for_the_first_read(self) -> None:
        """Let connections wait for a worker that is being started, while others answer; but not for long."""
        read = asyncio.Event()
        ticket = self.replica.wait_for(0, read.set)
        with suppress(TimeoutError):
            await asyncio.wait_for(read.wait(), FIRST_READ_SECONDS)
        self.replica.cancel(ticket)

    async def _sweep(self) -> None:
        """Close slow and idle connections, again and again."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self.listener.sweep()
                self._failures.settle()
            except Exception:
                log.exception("sweep failed")

    async def _drain(self, checks: asyncio.AbstractServer) -> None:
        """Let everybody go without cutting anybody off.

        Proxies still send requests until they have noticed, so connections are still taken and every request is answered, with
        `Connection: close`. It is over when it has been quiet for a while, or when the time for it is.
        """
        self.listener.draining = True
        log.info("draining", extra=fields(connections=len(self.listener.connections)))
        started = time.perf_counter()
        deadline = started + self._settings.drain_seconds
        while (now := time.perf_counter()) < deadline:
            if not self._relay.under_way and now - max(started, self.listener.last_request) > QUIET_SECONDS:
                break
            await asyncio.sleep(min(0.05, deadline - now))
        checks.close()
        await self.listener.close()

    async def _healthz(self, _: Request) -> Response:
        """The loop turns, or this would not be answered."""
        return self._counted(as_json(200, {"status": "ok"}))

    async def _readyz(self, _: Request) -> Response:
        """Whether decisions are served."""
        unfit = "draining" if self.listener.draining else self.check.unfit()
        state = self.replica.state
        body = {
            "ready": unfit is None,
            "reason": unfit or "",
            "revision": None if state is None else state.revision,
            "lag": None if state is None else round(clock() - self.replica.confirmed_at, 3),
        }
        return self._counted(as_json(503 if unfit else 200, body))

    def _counted(self, response: Response) -> Response:
        self.metrics.health_checks[response.status] += 1
        return response

    async def _metrics(self, _: Request) -> Response:
        """Prometheus' text format."""
        return Response(200, self.metrics.text(), MEDIA_TYPE)


def _let_go(leash: int, ending: asyncio.Event) -> None:
    """The supervisor is gone: end, like it."""
    asyncio.get_running_loop().remove_reader(leash)
    ending.set()
