"""OpenID Connect as a client: the protocol alone, without a database and without pages."""

from control_plane.oidc.claims import NEVER, Claims, LogoutClaims
from control_plane.oidc.client import Client, Start
from control_plane.oidc.examine import Finding
from control_plane.oidc.provider import ALGORITHMS, DEFAULT_ALGORITHMS, Algorithm, Provider
from control_plane.oidc.refused import NOBODYS_GUESS, PROVIDERS_FAULT, Code, Refused

__all__ = [
    "ALGORITHMS",
    "DEFAULT_ALGORITHMS",
    "NEVER",
    "NOBODYS_GUESS",
    "PROVIDERS_FAULT",
    "Algorithm",
    "Claims",
    "Client",
    "Code",
    "Finding",
    "LogoutClaims",
    "Provider",
    "Refused",
    "Start",
]
