"""The tour's chapter on webhooks: a change is told to who asked for it, signed, and to who was away as soon as they are back."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx2

from control_plane.demo.inbox import KNOWN, Delivery, Inbox

if TYPE_CHECKING:
    from control_plane.demo.tour import Tour

_EVENTS: Final = "grant.*"
_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02


class WebhookChapter:
    """Everything the steps need. The receiver is in this process, on a port of its own."""

    def __init__(self, tour: "Tour") -> None:
        self.tour = tour
        self.inbox = Inbox()
        self.webhook = ""

    def steps(self) -> Sequence[Callable[[], None]]:
        """All steps in order."""
        return self.told, self.away

    def told(self) -> None:
        """A webhook, a change, a delivery that the public library proves; and two lies."""
        self.tour.head(
            "Somebody wants to hear of it", f'POST /v1/webhooks  {{"url": "{self.inbox.url}", "events": ["{_EVENTS}"]}}'
        )
        self.inbox.open()
        self._subscribe()
        committed = self._grant("invoices:read")
        believed = self._hear(1, committed)
        if not believed:
            return self.tour.claim(False, "a grant is told to who asked for it")
        told = believed[0]
        lie = self._lie(told.headers, told.body.replace(b"invoices", b"salaries"), "one word of it changed")
        again = self._lie(told.headers, told.body, "the same once more")
        for name in ("webhook-id", "webhook-signature"):
            self.tour.drawing.fact(name, told.headers[name])
        seen = (told.event["type"], lie.status_code, again.text, len(self.inbox.deliveries))
        return self.tour.claim(
            seen == ("grant.created", HTTPStatus.UNAUTHORIZED, KNOWN, 1),
            "the public library standardwebhooks proves it; one word changed, and it does not; repeated, it counts once",
        )

    def away(self) -> None:
        """The receiver is down, and misses nothing."""
        self.tour.head("The receiver is down", "POST /v1/grants, as before")
        self.inbox.close()
        committed = self._grant("invoices:write")
        failed = self._first_failure()
        self.tour.drawing.told("worker", 0, str(failed["error"]))
        self.inbox.open()
        believed = self._hear(2, committed)
        self.tour.claim(
            len(believed) == 2 and believed[1].headers["webhook-id"] == failed["delivery"],  # noqa: PLR2004  (one of each step)
            "it is back, and hears what it missed: retried by itself, here after a second, in earnest for three days",
        )
        self.inbox.close()

    def _subscribe(self) -> None:
        body = {"org": self.tour.world.org, "url": self.inbox.url, "events": [_EVENTS], "retry_schedule": [1, 1, 1]}
        made = self.tour.api.post("/v1/webhooks", body)
        self.webhook, self.inbox.secret = made["id"], made["secret"]

    def _grant(self, entitlement: str) -> float:
        """Give alice something; when it was committed, in seconds since 1970."""
        subject = {"kind": "profile", "id": self.tour.world.alice.profile}
        self.tour.api.post("/v1/grants", {"org": self.tour.world.org, "subject": subject, "entitlement": entitlement})
        return datetime.fromisoformat(self.tour.api.get("/v1/revision")["committed_at"]).timestamp()

    def _hear(self, count: int, committed: float) -> list[Delivery]:
        """What was believed so far, once it is so much; the last one is drawn."""
        believed = self.inbox.wait_for(count, _SECONDS)
        if len(believed) == count:
            last = believed[-1]
            self.tour.drawing.told("worker", HTTPStatus.OK, last.event["type"], last.at - committed)
        return believed

    def _lie(self, headers: Mapping[str, str], body: bytes, what: str) -> httpx2.Response:
        """What somebody sends who has seen a delivery on its way."""
        kept = {name: value for name, value in headers.items() if name.startswith("webhook-")}
        answer = httpx2.post(self.inbox.url, headers=kept, content=body, trust_env=False)
        self.tour.drawing.told("mallory", answer.status_code, f"{what}: {answer.text}")
        return answer

    def _first_failure(self) -> Mapping[str, Any]:
        """The first attempt that failed, as the API shows it."""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            failed = self.tour.api.get(f"/v1/webhooks/{self.webhook}/attempts", failed="true")["items"]
            if failed:
                found: Mapping[str, Any] = failed[-1]
                return found
            time.sleep(_POLL_SECONDS)
        return {"error": "no attempt", "delivery": ""}
