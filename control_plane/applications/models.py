"""Applications as callers send and see them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from control_plane.fields import Body, EntitlementName, Name, Shown, Slug
from sidecar.canonical import Refused, canonical_host


def _host(text: str) -> str:
    """A host as checks know it: lower case, A-labels, no trailing dot; `*.` in front stands for one label."""
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        host = canonical_host(name)
    except Refused:
        raise ValueError("write a host name, such as orders.example.com or *.example.com") from None
    if ":" in name and not name.endswith("]"):
        raise ValueError("write the host without its port")
    return star + host


Host = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    AfterValidator(_host),
    Field(description="Without port. `*.example.com` stands for one label."),
]
Hosts = Annotated[list[Host], Field(max_length=200)]
Prefixes = Annotated[list[EntitlementName], Field(max_length=100)]


class NewApplication(Body):
    """What is to be protected: one or more hosts under one policy. Until a policy is published, everything is denied.

    `entitlement_prefixes` narrows the entitlements it is sent; `assertions` asks for `x-decision-jwt`; with `second_approver` a
    policy is published only after somebody else approved it.
    """

    slug: Slug
    name: Name
    hosts: Annotated[Hosts, Field(min_length=1)]
    entitlement_prefixes: Prefixes = Field(default_factory=list)
    assertions: bool = False
    second_approver: bool = False


class ApplicationPatch(Body):
    """What may change; what is absent stays, lists are replaced whole.

    Where `second_approver` holds, turning it off and taking a host away need a second person's waiver.
    """

    name: Name | None = None
    hosts: Annotated[Hosts, Field(min_length=1)] | None = None
    entitlement_prefixes: Prefixes | None = None
    assertions: bool | None = None
    second_approver: bool | None = None


class Application(Shown):
    """One or more hosts protected by one published policy version (`policy_version`; null: everything is denied)."""

    id: UUID
    slug: str
    name: str
    hosts: list[str]
    entitlement_prefixes: list[str]
    assertions: bool
    second_approver: bool
    policy_version: int | None
    created_at: datetime
    updated_at: datetime
