"""The login host's own addresses, all made from CATALYST_LOGIN_URL."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

from control_plane.settings import Settings


def base(settings: Settings) -> str:
    """The login host's origin, which all its paths begin with; no slash at its end."""
    parts = urlsplit(settings.login_url)
    return f"{parts.scheme}://{parts.netloc}"


def host(settings: Settings) -> str:
    """The login host, without a port."""
    return urlsplit(settings.login_url).hostname or ""


def https_only(settings: Settings) -> bool:
    """Whether people may be sent to https alone: always, but where the login host itself is http, in development."""
    return urlsplit(settings.login_url).scheme == "https"


def login(settings: Settings, query: Mapping[str, str]) -> str:
    """The login page, asked for something beside what stands in its address already."""
    parts = urlsplit(settings.login_url)
    asked = dict(parse_qsl(parts.query)) | dict(query)
    return parts._replace(query=urlencode(asked, quote_via=quote, safe="")).geturl()


def callback(settings: Settings, provider: UUID) -> str:
    """Where a provider sends people back to: one address for each, registered there (RFC 9700 section 4.4.2.1)."""
    return f"{base(settings)}/login/callback/{provider}"


def backchannel(settings: Settings, provider: UUID) -> str:
    """Where a provider says that somebody has logged out there."""
    return f"{base(settings)}/login/backchannel/{provider}"


def sessions(settings: Settings) -> str:
    """Where people see their own sessions."""
    return f"{base(settings)}/sessions"


def logout(settings: Settings) -> str:
    """The page that asks whether to log out."""
    return f"{base(settings)}/logout"


def logged_out(settings: Settings) -> str:
    """Where a provider sends people back to after a logout: registered there too (RP-Initiated Logout 1.0 section 3)."""
    return f"{base(settings)}/logout/done"


def domain_of(settings: Settings, host_of_application: str) -> str:
    """CATALYST_COOKIE_DOMAIN where the host lies in it: then one cookie serves all, and the login host sets it. Else empty."""
    domain = settings.cookie_domain
    inside = domain and f".{host_of_application}".endswith(f".{domain}")
    return domain if inside else ""
