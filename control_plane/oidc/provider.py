"""What the client must know of a provider, and the words that stand between its classes and methods and ours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args
from uuid import UUID

from sidecar.policy.match import FACTORS, MULTI_FACTOR_ACR

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""What a provider may be allowed to sign with: a key pair. Never `none`, never a shared secret."""

ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
DEFAULT_ALGORITHMS: Final[tuple[Algorithm, ...]] = ("RS256", "PS256", "ES256", "EdDSA")

_HELD_OR_BEEN: Final = frozenset({"mfa"}).union(*FACTORS[1:])
"""Methods that, beside a password, make sidecars believe in a second factor."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One provider, as its client. Printing it shows no secret.

    `second_factor_amr`, `second_factor_acr`: the provider's values that count as a second factor, and then no others do; None:
    what its `amr` says is believed (RFC 8176). `acr_aliases`: our name of a class → the provider's.
    """

    id: UUID
    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scopes: Sequence[str] = ("openid", "profile", "email")
    algorithms: Sequence[str] = DEFAULT_ALGORITHMS
    clock_skew_seconds: int = 60
    groups_claim: str = ""
    second_factor_amr: Sequence[str] | None = None
    second_factor_acr: Sequence[str] | None = None
    acr_aliases: Mapping[str, str] = field(default_factory=dict)
    token_audience: str = ""

    def asked_acr(self, acr_values: Iterable[str], *, mfa: bool = False) -> list[str]:
        """What to ask the provider for, in its own words: our classes, and with `mfa` whatever stands for a second factor."""
        wanted = [self.acr_aliases.get(value, value) for value in acr_values]
        if mfa and not wanted:
            wanted = list(self.second_factor_acr or [self.acr_aliases.get(MULTI_FACTOR_ACR, MULTI_FACTOR_ACR)])
        return list(dict.fromkeys(wanted))

    def our_acr(self, acr: str) -> str:
        """Our name of the class that the provider says was reached. One of our names that it may not use itself means nothing."""
        for ours, theirs in self.acr_aliases.items():
            if theirs == acr:
                return ours
        return "" if acr in self.acr_aliases else acr

    def our_amr(self, amr: Iterable[str], acr: str) -> list[str]:
        """How somebody logged in, as sidecars read it: `mfa` stands in it exactly where this provider's rule for it holds."""
        said = list(dict.fromkeys(amr))
        if self.second_factor_amr is None and self.second_factor_acr is None:
            return said
        if {*said} & {*(self.second_factor_amr or ())} or acr in (self.second_factor_acr or ()):
            return list(dict.fromkeys([*said, "mfa"]))
        return [method for method in said if method not in _HELD_OR_BEEN]
