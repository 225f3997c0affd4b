"""Webhooks as callers send and see them."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from control_plane import events
from control_plane.delivery.certificates import check_ca_bundle
from control_plane.delivery.headers import MOST_HEADERS, check_headers
from control_plane.delivery.outcomes import DEFAULT_SCHEDULE
from control_plane.fields import Body, EventPattern, HeaderName, HeaderText, Reference, Remark, Shown
from control_plane.outbound import OutboundRefused, check_url

_MOST_SECONDS: Final = 7 * 86_400
_OF_THE_PLATFORM: Final[dict[str, Any]] = {"flag": "platform", "help": "Of every org: the platform's own."}
_PEM: Final[dict[str, Any]] = {"format": "pem"}


def _url(text: str) -> str:
    """A URL that can be asked; whether it may be is decided where the networks are known."""
    try:
        check_url(text)
    except OutboundRefused as refused:
        raise ValueError(refused.detail) from None
    return text


def _known(pattern: str) -> str:
    """A pattern that some event matches."""
    if problem := events.unknown(pattern):
        raise ValueError(problem)
    return pattern


def _bundle(pem: str) -> str:
    """Certificates that TLS takes."""
    check_ca_bundle(pem)
    return pem


def _once(values: list[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


Url = Annotated[
    str,
    StringConstraints(pattern=r"^https?://", min_length=1, max_length=2000),
    AfterValidator(_url),
    Field(description="Where events are sent.", examples=["https://hooks.example.com/catalyst"]),
]
Pattern = Annotated[EventPattern, AfterValidator(_known)]
Patterns = Annotated[
    list[Pattern],
    Field(min_length=1, max_length=100, description="Of what: *, profile.*, profile.updated.", examples=[["profile.*"]]),
    AfterValidator(_once),
]
Payload = Annotated[
    Literal["full", "thin"], Field(description="full tells what there was before and is after; thin the id alone.")
]
Ordered = Annotated[bool, Field(description="What happens to one thing comes one after the other.")]
Signature = Literal["v1", "v1a"]
Signatures = Annotated[
    list[Signature],
    Field(min_length=1, max_length=2, description="v1: by a secret (HMAC-SHA256); v1a: by a key pair (Ed25519). Without it: v1."),
    AfterValidator(_once),
]
Wait = Annotated[int, Field(ge=1, le=_MOST_SECONDS)]
Schedule = Annotated[
    list[Wait],
    Field(max_length=20, description="Seconds from each failure to the next attempt. Without it: the Standard Webhooks' own."),
]
Timeout = Annotated[int, Field(ge=1, le=30, description="For one attempt, from the first byte to the last.")]
Rate = Annotated[int, Field(ge=1, le=10_000, description="Attempts a second, at most.")]
InFlight = Annotated[int, Field(ge=1, le=100, description="Attempts at once, at most.")]
HeaderValue = Annotated[HeaderText, StringConstraints(max_length=4000), Field(json_schema_extra={"writeOnly": True})]
Headers = Annotated[
    dict[HeaderName, HeaderValue],
    Field(
        max_length=MOST_HEADERS,
        description="Sent with each attempt. Values are kept sealed and never shown.",
        examples=[{"authorization": "Bearer 0123456789abcdef"}],
    ),
    AfterValidator(check_headers),
]
Certificate = Annotated[
    str,
    StringConstraints(max_length=50_000),
    Field(description="Shown to a receiver that asks for one; PEM, its chain behind it.", json_schema_extra=_PEM),
]
ClientKey = Annotated[
    str,
    StringConstraints(max_length=50_000),
    Field(description="The certificate's; PEM, kept sealed and never shown.", json_schema_extra={**_PEM, "writeOnly": True}),
]
Bundle = Annotated[
    str,
    StringConstraints(max_length=200_000),
    Field(description="Whom to believe instead of the public authorities; PEM.", json_schema_extra=_PEM),
    AfterValidator(_bundle),
]
Status = Literal["active", "paused", "disabled"]


def _v1() -> list[Signature]:
    return ["v1"]


def default_schedule() -> list[int]:
    """That of the Standard Webhooks specification."""
    return list(DEFAULT_SCHEDULE)


class NewWebhook(Body):
    """An endpoint that is told of events. Without `org`: of the caller's org; null: of every org, the platform's own."""

    url: Url
    events: Patterns
    org: Reference | None = Field(
        default=None, description="Of which org; without it: of the caller's own.", json_schema_extra={"x-null": _OF_THE_PLATFORM}
    )
    description: Remark = ""
    payload: Payload = "full"
    ordered: Ordered = False
    signatures: Signatures = Field(default_factory=_v1)
    retry_schedule: Schedule = Field(default_factory=default_schedule)
    timeout_seconds: Timeout = 15
    rate_limit: Rate | None = None
    max_in_flight: InFlight = 10
    headers: Headers = Field(default_factory=dict)
    client_certificate: Certificate | None = Field(default=None, examples=[None])
    client_key: ClientKey | None = Field(default=None, examples=[None])
    ca_bundle: Bundle | None = Field(default=None, examples=[None])


class WebhookPatch(Body):
    """What may change; what is absent stays, lists and headers are replaced whole, null is as if it had never been given.

    A new URL needs headers and client key again: those that are kept were given for another.
    """

    url: Url | None = None
    events: Patterns | None = None
    description: Remark | None = None
    status: Literal["active", "paused"] | None = None
    payload: Payload | None = None
    ordered: Ordered | None = None
    signatures: Signatures | None = None
    retry_schedule: Schedule | None = None
    timeout_seconds: Timeout | None = None
    rate_limit: Rate | None = None
    max_in_flight: InFlight | None = None
    headers: Headers | None = None
    client_certificate: Certificate | None = Field(default=None, examples=[None])
    client_key: ClientKey | None = Field(default=None, examples=[None])
    ca_bundle: Bundle | None = Field(default=None, examples=[None])


class Health(Shown):
    """How deliveries go. `pending` wait, `retrying` of them have failed before, `dead` were given up.

    `last_attempt`: the newest attempt's id, `after_id` of whatever comes next.
    """

    pending: int
    retrying: int
    dead: int
    failures: int
    failing_since: datetime | None
    held_until: datetime | None
    last_attempt: int | None


class Webhook(Shown):
    """An endpoint that is told of events. `org` null: the platform's, told of every org's."""

    unversioned = frozenset({"health", "secrets_overlap_until"})

    id: UUID
    status: Status
    url: str
    events: list[str]
    org: UUID | None
    description: str
    disabled_reason: Literal["failing", "gone"] | None
    status_at: datetime
    health: Health
    payload: Payload
    ordered: bool
    signatures: list[str]
    public_key: str | None
    secrets_overlap_until: datetime | None
    retry_schedule: list[int]
    timeout_seconds: int
    rate_limit: int | None
    max_in_flight: int
    header_names: list[str]
    client_certificate: str | None
    ca_bundle: str | None
    created_at: datetime
    updated_at: datetime


class Rotation(Body):
    """How long what signs now still does, beside the new. 0: it ends at once, and so do earlier ones that still sign."""

    overlap_seconds: Annotated[int, Field(ge=0, le=_MOST_SECONDS)] = 86_400


class Tested(Shown):
    """What came of a test. `id`: its webhook-id; `error`: why it counts as a failure; `answer`: how the answer's body begins."""

    id: str = Field(examples=["msg_9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d"])
    delivered: bool
    status: int | None = Field(examples=[204])
    milliseconds: float
    error: str | None = Field(examples=[None])
    answer: str


class WebhookWithSecret(Webhook):
    """An endpoint with the secret that its messages are signed with (`v1`), shown this once."""

    unversioned = Webhook.unversioned | {"secret"}

    secret: str | None
