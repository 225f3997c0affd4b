"""What the token endpoint is asked and works with, and what it issues."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from control_plane.changes import Change, Origin
from control_plane.oidc import Client
from control_plane.permissions import Caller
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Machine, NewToken, NoToken
from control_plane.settings import Settings
from control_plane.telemetry import Metrics
from control_plane.tokens.form import Form
from control_plane.tokens.refused import malformed

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"


@dataclass(frozen=True, slots=True)
class Desk:
    """What the token endpoint works with. `pool`: connections in the role catalyst_control."""

    pool: Any
    settings: Settings
    metrics: Metrics
    oidc: Client


@dataclass(frozen=True, slots=True, repr=False)
class Asked:
    """One request, and where it comes from."""

    form: Form
    address: str | None
    request_id: str

    def origin(self, caller: Caller) -> Origin:
        """Whose change the session will be."""
        return Origin(caller, self.request_id, self.address)


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A token and what is said with it. `expires_in`: seconds."""

    token: str
    expires_in: int
    scopes: Sequence[str]
    token_type: str | None

    @classmethod
    def of(cls, made: NewToken, scopes: Sequence[str], token_type: str | None) -> Self:
        """What is said of a token that was just made."""
        return cls(made.token, max(0, int((made.expires_at - datetime.now(UTC)).total_seconds())), scopes, token_type)

    def body(self) -> dict[str, Any]:
        """RFC 6749 section 5.1, RFC 8693 section 2.2.1."""
        said: dict[str, Any] = {"access_token": self.token, "token_type": "Bearer", "expires_in": self.expires_in}
        said |= {"issued_token_type": self.token_type} if self.token_type else {}
        return said | ({"scope": " ".join(sorted(self.scopes))} if self.scopes else {})


async def mint(change: Change, settings: Settings, machine: Machine) -> NewToken:
    """The session and its token; TokenRefused where the proof has just ended, or says more than a token has room for."""
    try:
        return await sessions.mint_for_machine(change, settings, machine)
    except NoToken as refusal:
        raise malformed(str(refusal)) from None
