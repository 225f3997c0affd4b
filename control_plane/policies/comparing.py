"""Models of what is looked at before a policy goes out: differences in rules and people, replays, shadows."""

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from control_plane.fields import Body, Moment, Name, Remark, ScopeName, Shown

Which = Literal["published", "draft"] | Annotated[int, Field(ge=1, le=2**31 - 1)]
"""The policy in force, the draft, or a version by its number."""


class SentDocument(Body):
    """A document that is not stored: what a file of a pull request holds."""

    source: Annotated[str, Field(max_length=1024 * 1024)]
    media_type: Literal["application/yaml", "application/json"] = "application/yaml"


class Assumed(Body):
    """What is assumed about each request of a comparison, and told again in its answer.

    Users come with a session of a login that was just now, by these methods (`amr`) and of this class (`acr`); services come with
    an API key, without a login. `scopes` are those of either.
    """

    amr: Annotated[list[Name], Field(max_length=20)] = Field(default_factory=lambda: ["pwd", "otp"])
    acr: Remark = ""
    scopes: Annotated[list[ScopeName], Field(max_length=100)] = Field(default_factory=list)
    client: IPv4Address | IPv6Address = IPv4Address("192.0.2.1")
    at: Annotated[Moment | None, Field(description="When; without: now.")] = None


class WantedDiff(Body):
    """What to compare with what. `document` stands in for `after`."""

    before: Which = "published"
    after: Which = "draft"
    document: SentDocument | None = None
    assume: Assumed = Field(default_factory=Assumed)
    people: Annotated[int, Field(ge=0, le=1000, description="How many to list of each group of people.")] = 20
    routes: Annotated[int, Field(ge=0, le=1000, description="How many differing routes to list.")] = 200


class Side(Shown):
    """One of the policies compared: `version` where it is one, `etag` where it is a draft or a document."""

    name: str
    version: int | None
    etag: str | None


class ShownKeyChange(Shown):
    """A key of a rule with its value before and after; null where it is not there."""

    key: str
    before: Any
    after: Any


class ShownRuleChange(Shown):
    """A rule that is in both and differs."""

    id: str
    keys: list[ShownKeyChange]


class ShownMove(Shown):
    """A rule that changed places with others of the same effect, where the first of them says something else to some request."""

    id: str
    past: list[str]


class ShownRules(Shown):
    """The difference in terms of rules, by their ids."""

    added: list[str]
    removed: list[str]
    changed: list[ShownRuleChange]
    moved: list[ShownMove]


class Person(Shown):
    """A profile in an org."""

    profile: UUID
    org: UUID


class Group(Shown):
    """People: how many, the first of them, how many more; `anonymous`: and whoever comes without a credential."""

    count: int
    anonymous: bool
    people: list[Person]
    more: int


class OwnSegment(Shown):
    """A segment of the path (from 1) that is the person's own: it equals this attribute of theirs."""

    segment: int
    attribute: str


class RouteChange(Shown):
    """A route, who gains it and who loses it.

    `methods`: `*` stands for each that no rule about the path names. `path`: a rule's pattern, without the paths below it that
    other rules are about as well. `own`: the segments that are the person's own where a rule compares them; all other compared
    segments are somebody else's. `sequences`: ambiguous ones that the path holds. `depends_on`: conditions of the rules there
    that the assumptions answer. `sample`: a URL of the route, own segments by name. `conditional`: for whom nothing changes
    under the assumptions, and something may under others.
    """

    methods: list[str]
    hosts: list[str]
    path: str
    own: list[OwnSegment]
    sequences: list[str]
    sample: str
    depends_on: list[str]
    gain: Group
    lose: Group
    conditional: Group


class ShownPeople(Shown):
    """The difference in terms of people: every active member of an active org.

    `gaining` and `losing` count who gains or loses anything at all. `truncated`: what was not looked at; empty: everything was.
    """

    members: int
    classes: int
    answers: int
    gaining: int
    losing: int
    routes: list[RouteChange]
    more_routes: int


class Diff(Shown):
    """What differs between two policies, at one revision. `differs`: any rule, or any route for anybody."""

    before: Side
    after: Side
    revision: int
    assumed: Assumed
    differs: bool
    rules: ShownRules
    people: ShownPeople
    truncated: list[str]


class WantedReplay(Body):
    """What to replay the sampled decisions against. `document` stands in for `against`."""

    against: Which = "draft"
    document: SentDocument | None = None
    since: Moment | None = None
    limit: Annotated[int, Field(ge=1, le=50_000, description="The newest decisions: how many.")] = 10_000
    listed: Annotated[int, Field(ge=0, le=1000, description="How many differing decisions to list.")] = 100


class ShownVerdict(Shown):
    """One answer."""

    effect: Literal["allow", "deny"]
    reason: str
    rule: str


class ReplayedRequest(Shown):
    """A canonical request; the path without its query."""

    method: str
    scheme: str
    host: str
    path: str
    client: IPv4Address | IPv6Address


class ReplayedPrincipal(Shown):
    """Who asked."""

    kind: Literal["anonymous", "session", "api_key"]
    profile: UUID | None
    org: UUID | None


class ReplayedDecision(Shown):
    """A decision that would come out otherwise: `change` says how.

    `recorded` is what the sidecar answered then; `published` and `candidate` are what the two policies answer to the same
    principal as the database knows it now. `drifted`: the policy in force answers otherwise now than was recorded, so something
    else changed since.
    """

    at: datetime
    revision: int
    principal: ReplayedPrincipal
    request: ReplayedRequest
    recorded: ShownVerdict
    published: ShownVerdict
    candidate: ShownVerdict
    change: Literal["allowed", "denied", "reason"]
    drifted: bool


class LeftOut(Shown):
    """Decisions that could not be replayed, and why."""

    reason: Literal["not_a_member", "key_ended", "unknown_host", "not_by_policy", "session_bound", "unreadable"]
    count: int


class Span(Shown):
    """From the first to the last decision of a sample."""

    first_at: datetime
    last_at: datetime
    first_revision: int
    last_revision: int


class Replay(Shown):
    """What publishing the candidate would change of the sampled decisions. `differs`: whether anything."""

    published: Side
    candidate: Side
    revision: int
    differs: bool
    sampled: int
    replayed: int
    same: int
    would_be_allowed: int
    would_be_denied: int
    other_reason: int
    drifted: int
    left_out: list[LeftOut]
    lost: int
    span: Span | None
    decisions: list[ReplayedDecision]
    more: int


class Shadow(Shown):
    """A draft that sidecars evaluate beside the policy in force since `started_at`, and what came of it so far.

    `seen` decisions were made beside it, `differing` of them it would have made otherwise, `failed` it could not make; `lost`
    were counted and not kept. `is_draft`: it still is the application's draft.
    """

    unversioned = frozenset({"is_draft", "seen", "differing", "failed", "lost"})

    application: UUID
    etag: str
    is_draft: bool
    started_at: datetime
    seen: int
    differing: int
    failed: int
    lost: int


class ShadowDifference(Shown):
    """A decision that the shadow would have made otherwise."""

    id: int
    at: datetime
    revision: int
    principal: ReplayedPrincipal
    request: ReplayedRequest
    published: ShownVerdict
    shadow: ShownVerdict
