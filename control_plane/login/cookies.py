"""Every cookie of the login host and of applications' hosts: names and attributes, and nothing else sets one.

All are HttpOnly and SameSite=Lax; over https Secure, with a prefix that browsers hold them to (RFC 6265bis section 4.1.3). Over
http, in development, browsers would drop a cookie with such a prefix: no prefix, no Secure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from control_plane.settings import Settings
from sidecar.contract import BINDING_COOKIE, LOGIN_PATH, OF_THIS_HOST, OVER_TLS, REFRESH_COOKIE, SESSION_COOKIE

_LOGIN: Final = "catalyst_login"
_FLOW: Final = "catalyst_flow_"
_ROUNDS: Final = "catalyst_rounds"
_LOGOUT: Final = "catalyst_logout"
_BINDING_SECONDS: Final = 3600
"""How long somebody may take from leaving an application to coming back."""


def _cookie(name: str, value: str, *, path: str, secure: bool, seconds: int | None = None, domain: str = "") -> str:
    """One Set-Cookie. `seconds`: None for as long as the browser runs, 0 to forget it now."""
    parts = [f"{name}={value}", f"Path={path}"]
    parts += [f"Domain={domain}"] if domain else []
    parts += [] if seconds is None else [f"Max-Age={seconds}"]
    parts += ["HttpOnly", "SameSite=Lax"]
    return "; ".join([*parts, "Secure"] if secure else parts)


@dataclass(frozen=True, slots=True)
class LoginCookies:
    """Cookies of the login host. `sent`: what the browser came with."""

    secure: bool
    sent: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, sent: Mapping[str, str]) -> "LoginCookies":
        """Those of the host in CATALYST_LOGIN_URL."""
        return cls(urlsplit(settings.login_url).scheme == "https", sent)

    @property
    def session(self) -> str:
        """The login host's own refresh token; empty where the browser sent none."""
        return self.sent.get(self._name(_LOGIN), "")

    def keep_session(self, token: str, seconds: int) -> str:
        """The login host's own refresh token, for as long as its session may last."""
        return self._set(_LOGIN, token, seconds)

    def forget_session(self) -> str:
        """Nobody is logged in."""
        return self._set(_LOGIN, "", 0)

    @property
    def rounds(self) -> str:
        """How often this browser was sent back lately, sealed."""
        return self.sent.get(self._name(_ROUNDS), "")

    def keep_rounds(self, value: str, seconds: int) -> str:
        """The same, to be kept."""
        return self._set(_ROUNDS, value, seconds)

    @property
    def logout(self) -> str:
        """A logout that this browser went to its provider with, sealed."""
        return self.sent.get(self._name(_LOGOUT), "")

    def keep_logout(self, value: str, seconds: int) -> str:
        """The same, to be kept until it comes back."""
        return self._set(_LOGOUT, value, seconds)

    def forget_logout(self) -> str:
        """It has come back."""
        return self._set(_LOGOUT, "", 0)

    @property
    def flows(self) -> dict[str, str]:
        """Logins under way in this browser, sealed, by their id."""
        start = self._name(_FLOW)
        return {name.removeprefix(start): value for name, value in self.sent.items() if name.startswith(start)}

    def keep_flow(self, flow: str, value: str, seconds: int) -> str:
        """A login that begins."""
        return self._set(_FLOW + flow, value, seconds)

    def forget_flow(self, flow: str) -> str:
        """A login that came to its end, or is one too many."""
        return self._set(_FLOW + flow, "", 0)

    def _name(self, name: str) -> str:
        return OF_THIS_HOST + name if self.secure else name

    def _set(self, name: str, value: str, seconds: int) -> str:
        return _cookie(self._name(name), value, path="/", secure=self.secure, seconds=seconds)


@dataclass(frozen=True, slots=True)
class HostCookies:
    """Cookies of an application's host, or with `domain` of all hosts under it. `name`: as its sidecar calls the access token's.

    The access token's ends with the browser, not with the token: so the sidecar can tell an expired session from none.
    """

    secure: bool
    name: str = SESSION_COOKIE
    domain: str = ""

    @property
    def refresh_name(self) -> str:
        """The name of the refresh token's."""
        return OVER_TLS + REFRESH_COOKIE if self.secure else REFRESH_COOKIE

    @property
    def binding_name(self) -> str:
        """The name of the nonce's that binds a login to the browser that asked for it.

        A neighbouring host could set one with `__Secure-` for the whole domain, and log a browser in with a code of its own.
        """
        return OF_THIS_HOST + BINDING_COOKIE if self.secure else BINDING_COOKIE

    @property
    def access_name(self) -> str:
        """The name of the access token's. A domain's cookie can have no `__Host-`, and a name with a prefix has its own."""
        bare = not self.secure or self.domain or self.name.startswith("__")
        return self.name if bare else OF_THIS_HOST + self.name

    def keep_session(self, access: str, refresh: str, seconds: int) -> list[str]:
        """An access token and the refresh token behind it, which lasts for `seconds`."""
        return [
            _cookie(self.access_name, access, path="/", secure=self.secure, domain=self.domain),
            self._relayed(self.refresh_name, refresh, seconds, self.domain),
        ]

    def forget_session(self) -> list[str]:
        """Nobody is logged in at this host."""
        return [
            _cookie(self.access_name, "", path="/", secure=self.secure, seconds=0, domain=self.domain),
            self._relayed(self.refresh_name, "", 0, self.domain),
        ]

    def keep_binding(self, nonce: str) -> str:
        """The nonce that a login is bound to. What is of this host alone has no path; applications see it, never a code."""
        path = "/" if self.secure else LOGIN_PATH
        return _cookie(self.binding_name, nonce, path=path, secure=self.secure, seconds=_BINDING_SECONDS)

    def _relayed(self, name: str, value: str, seconds: int, domain: str) -> str:
        """A cookie that goes to the sidecar, never to the application."""
        return _cookie(name, value, path=LOGIN_PATH, secure=self.secure, seconds=seconds, domain=domain)
