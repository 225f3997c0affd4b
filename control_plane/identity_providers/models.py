"""Identity providers as callers send and see them."""

from datetime import datetime
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from control_plane.fields import Body, Domain, Method, Name, Printable, Reference, Remark, Shown, Slug, Word
from control_plane.oidc import DEFAULT_ALGORITHMS, Algorithm
from control_plane.outbound import OutboundRefused, check_url

_DEFAULT_SCOPES: Final = ("openid", "profile", "email")


def _issuer(text: str) -> str:
    """An issuer as OpenID Connect Discovery has them: a URL without query and fragment."""
    try:
        check_url(text)
    except OutboundRefused:
        raise ValueError("write the issuer's URL, such as https://idp.example.com") from None
    if urlsplit(text).query or text.endswith("?"):
        raise ValueError("an issuer has no query")
    return text


def _openid(scopes: list[str]) -> list[str]:
    """Scopes, each once. Without `openid` there is no ID token."""
    if "openid" not in scopes:
        raise ValueError("openid must be among the scopes")
    return list(dict.fromkeys(scopes))


def _distinct(aliases: dict[str, str]) -> dict[str, str]:
    """Aliases that can be read both ways."""
    if len({*aliases.values()}) < len(aliases):
        raise ValueError("two of your names stand for the same class of the provider")
    return aliases


Issuer = Annotated[
    str,
    StringConstraints(pattern=r"^https?://", min_length=1, max_length=255),
    AfterValidator(_issuer),
    Field(description="The provider's issuer, to the letter: what its discovery document and its tokens say."),
]
ClientId = Annotated[Printable, StringConstraints(min_length=1, max_length=255), Field(examples=["catalyst"])]
ClientSecret = Annotated[
    Printable,
    StringConstraints(min_length=1, max_length=2000),
    Field(
        description="Kept sealed and never shown. Without one the client is public: PKCE alone protects the code.",
        json_schema_extra={"writeOnly": True},
    ),
]
Scopes = Annotated[
    list[Word],
    Field(min_length=1, max_length=30, examples=[list(_DEFAULT_SCOPES)]),
    AfterValidator(_openid),
]
Algorithms = Annotated[list[Algorithm], Field(min_length=1, max_length=10, description="What its tokens may be signed with.")]
Skew = Annotated[int, Field(ge=0, le=300, description="How far the provider's clock may be off.")]
Domains = Annotated[
    list[Domain],
    Field(
        max_length=200,
        examples=[["example.com"]],
        description="Who becomes a member has a verified e-mail address of one of these. Empty: of any.",
    ),
]
Claim = Annotated[Remark, StringConstraints(max_length=200), Field(examples=["groups"])]
GroupMappings = Annotated[
    dict[Name, Reference],
    Field(max_length=500, description="Values of the groups claim, each with the group of the org that stands for it."),
]
Methods = Annotated[list[Method], Field(max_length=50, description="Methods (`amr`) that alone prove a second factor.")]
Classes = Annotated[list[Word], Field(max_length=50, description="Classes (`acr`) that alone prove a second factor.")]
Aliases = Annotated[
    dict[Word, Word],
    Field(max_length=50, description="Classes as policies name them, each as the provider does."),
    AfterValidator(_distinct),
]
Audience = Annotated[
    Printable,
    StringConstraints(max_length=255),
    Field(description="Access tokens of the provider with this audience can be exchanged. Empty: none can."),
]


class NewIdentityProvider(Body):
    """An OpenID Connect provider that people of the org log in with. What makes or moves members is off until it is asked for.

    With `second_factor_amr` or `second_factor_acr` nothing else that the provider says counts as a second factor.
    """

    slug: Slug
    name: Name
    issuer: Issuer
    client_id: ClientId
    client_secret: ClientSecret | None = None
    scopes: Scopes = Field(default_factory=lambda: list(_DEFAULT_SCOPES))
    algorithms: Algorithms = Field(default_factory=lambda: list(DEFAULT_ALGORITHMS))
    enabled: bool = True
    listed: bool = True
    clock_skew_seconds: Skew = 60
    just_in_time: bool = False
    domains: Domains = Field(default_factory=list)
    groups_claim: Claim = ""
    group_mappings: GroupMappings = Field(default_factory=dict)
    second_factor_amr: Methods | None = None
    second_factor_acr: Classes | None = None
    acr_aliases: Aliases = Field(default_factory=dict)
    token_audience: Audience = ""


class IdentityProviderPatch(Body):
    """What may change; what is absent stays, lists and maps are replaced whole. `client_secret: null` makes the client public.

    A new issuer needs the client secret again: the one that is kept was given for another.
    """

    name: Name | None = None
    issuer: Issuer | None = None
    client_id: ClientId | None = None
    client_secret: ClientSecret | None = None
    scopes: Scopes | None = None
    algorithms: Algorithms | None = None
    enabled: bool | None = None
    listed: bool | None = None
    clock_skew_seconds: Skew | None = None
    just_in_time: bool | None = None
    domains: Domains | None = None
    groups_claim: Claim | None = None
    group_mappings: GroupMappings | None = None
    second_factor_amr: Methods | None = None
    second_factor_acr: Classes | None = None
    acr_aliases: Aliases | None = None
    token_audience: Audience | None = None


class Finding(Shown):
    """One thing that was looked at. `error`: nobody can log in until it is put right; `warning`: some may not, or too many."""

    check: str
    level: Literal["ok", "note", "warning", "error"]
    message: str


class Examination(Shown):
    """What was found out about a provider without a person. `passed`: without an error."""

    passed: bool
    redirect_uri: str
    post_logout_redirect_uri: str
    backchannel_logout_uri: str
    findings: list[Finding]


class IdentityProvider(Shown):
    """An OpenID Connect provider of an org. Its three addresses of ours are what to register there."""

    id: UUID
    org: UUID
    slug: str
    name: str
    issuer: str
    client_id: str
    has_client_secret: bool
    scopes: list[str]
    algorithms: list[str]
    enabled: bool
    listed: bool
    clock_skew_seconds: int
    just_in_time: bool
    domains: list[str]
    groups_claim: str
    group_mappings: dict[str, str]
    second_factor_amr: list[str] | None
    second_factor_acr: list[str] | None
    acr_aliases: dict[str, str]
    token_audience: str
    redirect_uri: str
    post_logout_redirect_uri: str
    backchannel_logout_uri: str
    created_at: datetime
    updated_at: datetime
