"""What a person recognises their browser by in a list: "Firefox on Linux".

Only names of these tables are ever said: a User-Agent is what a stranger wrote, and tells much more than anybody needs to see.
"""

from typing import Final

_BROWSERS: Final = (
    # The one that says the most about itself first: nearly all of them claim to be Chrome, and Chrome to be Safari.
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("YaBrowser/", "Yandex Browser"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)

_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Mac OS X", "Mac"),
    ("Linux", "Linux"),
    ("BSD", "BSD"),
)

_LONGEST: Final = 1000
"""Characters of a User-Agent that are looked at."""


def device(user_agent: str) -> str:
    """A few words of ours for a User-Agent; empty where it tells nothing that we know."""
    told = user_agent[:_LONGEST]
    browser = next((name for mark, name in _BROWSERS if mark in told), "")
    system = next((name for mark, name in _SYSTEMS if mark in told), "")
    return f"{browser} on {system}" if browser and system else browser or system
