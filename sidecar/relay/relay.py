"""Carries errands to the control plane: so many at once, so long, and whatever goes wrong is a refusal that is counted."""

import logging
import secrets
from asyncio import timeout
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from sidecar.contract import RELAY_AUDIENCE, RELAY_ISSUER, RELAY_TOKEN_TYPE
from sidecar.http.answers import Answer
from sidecar.http.failures import Holder
from sidecar.identity.assertion import Assertions
from sidecar.logs import fields
from sidecar.metrics import LOGIN_ROUTE, Metrics
from sidecar.relay.client import Client, Garbled
from sidecar.relay.errand import Errand
from sidecar.relay.told import Unusable, told

log: Final = logging.getLogger(__name__)

SECONDS: Final = 5.0
"""How long an errand may take."""
MOST: Final = 64
"""Errands on their way at once. Each holds one of a proxy's connections, and anybody can ask for one."""
MOST_OF_ONE: Final = 32
"""Of these, errands of one client: a browser with many pages open has its place, and leaves as many to all others."""
LIFETIME: Final = 30
"""Seconds that the token of an errand lasts."""
_WARN_SECONDS: Final = 60.0
_ANSWERED: Final = "answered"


class Relay:
    """Asks the control plane at `url` in the name of the sidecar `sidecar_id`. `clock` gives seconds since the epoch.

    `shared`: settings that must be the control plane's too, by their names; it tells its operator where one is not.
    """

    def __init__(
        self,
        url: str,
        sidecar_id: UUID,
        assertions: Assertions,
        metrics: Metrics,
        clock: Callable[[], float],
        seconds: float = SECONDS,
        *,
        shared: Mapping[str, str] | None = None,
    ) -> None:
        self._client = Client(url)
        self._sidecar_id = str(sidecar_id)
        self._assertions = assertions
        self._metrics = metrics
        self._clock = clock
        self._seconds = seconds
        self._shared = dict(shared or {})
        self._warned: dict[str, float] = {}
        self._of_client: Counter[Holder | None] = Counter()
        self.under_way = 0
        """Errands that are on their way."""

    async def answer_slow(self, refusal: Answer) -> Answer:
        """What a browser is answered: what the control plane said, or `refusal`, which holds the errand. Never raises."""
        errand, refusal.errand = refusal.errand, None
        if errand is None:
            return refusal
        if self.under_way >= MOST or (errand.client is not None and self._of_client[errand.client] >= MOST_OF_ONE):
            self._count(errand, "refused")
            return refusal
        self.under_way += 1
        self._of_client[errand.client] += 1
        try:
            return await self._run(errand, refusal)
        finally:
            self.under_way -= 1
            self._of_client[errand.client] -= 1
            if not self._of_client[errand.client]:
                del self._of_client[errand.client]

    async def _run(self, errand: Errand, refusal: Answer) -> Answer:
        """`answer_slow` within the bounds."""
        try:
            async with timeout(self._seconds):
                received = await self._client.post(f"/relay/{errand.action}", self._token(errand), errand.body)
            status, before, body = told(received, errand)
        except TimeoutError:
            return self._failed(errand, refusal, "timeout", "")
        except OSError as error:
            return self._failed(errand, refusal, "unreachable", type(error).__name__)
        except (Garbled, Unusable) as error:
            return self._failed(errand, refusal, "unusable", str(error))
        except Exception as error:
            log.exception("relay failed")
            return self._failed(errand, refusal, "failed", type(error).__name__)
        self._count(errand, _ANSWERED)
        return Answer(status, before, body, self._metrics.undecided(LOGIN_ROUTE, status))

    def _token(self, errand: Errand) -> str:
        """The signed part of an errand: the sidecar's word for what its proxy was asked, for this one time."""
        now = int(self._clock())
        claims = {
            "iss": RELAY_ISSUER,
            "sub": self._sidecar_id,
            "aud": RELAY_AUDIENCE,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_urlsafe(16),
            "settings": self._shared,
        }
        return self._assertions.statement(claims | errand.claims, RELAY_TOKEN_TYPE)

    def _failed(self, errand: Errand, refusal: Answer, result: str, detail: str) -> Answer:
        """The refusal, with why it had to be counted, and told now and then."""
        self._count(errand, result)
        now = self._clock()
        if now - self._warned.get(result, float("-inf")) >= _WARN_SECONDS:
            self._warned[result] = now
            log.warning("login out of reach", extra=fields(action=errand.action, result=result, detail=detail))
        return refusal

    def _count(self, errand: Errand, result: str) -> None:
        self._metrics.relays[errand.action, result] += 1
