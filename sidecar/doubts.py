"""What can be meant as it is set, and seldom is: told once, at the start, with what to do."""

import logging
from typing import Final
from urllib.parse import urlsplit

from sidecar.canonical import is_local
from sidecar.settings import Settings

log: Final = logging.getLogger(__name__)


def tell(settings: Settings) -> None:
    """Log them."""
    for doubt in doubts(settings):
        log.warning(doubt)


def doubts(settings: Settings) -> list[str]:
    """A line for each doubt. No secret stands in it."""
    page, relay = urlsplit(settings.login_url), urlsplit(settings.login_relay_url)
    cases = {
        "CATALYST_LOGIN_URL is not set: people without a session get 401 and no login page. Set the control plane's.": (
            not settings.login_url
        ),
        "CATALYST_LOGIN_URL is http: people's cookies are sent without Secure, where others can read them. Write https.": (
            page.scheme == "http" and not is_local(page.hostname or "")
        ),
        "CATALYST_LOGIN_RELAY_URL is http to another machine: refresh tokens go over the network readable. Write https, "
        "or see that only your own network carries it.": (
            # Where it follows from the login page's, that one is told.
            relay.scheme == "http" and relay.netloc != page.netloc and not is_local(relay.hostname or "")
        ),
    }
    return [text for text, holds in cases.items() if holds]
