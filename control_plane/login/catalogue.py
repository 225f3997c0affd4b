"""What pages say, by language: one file of messages a language, and the choice among them by Accept-Language.

A message may hold `{name}` for values, which are escaped when it is filled. One that depends on a count `n` is a table of CLDR's
plural categories (`one`, `other`, …), of which the language's own rule takes one.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from babel import Locale
from babel.dates import UTC, format_skeleton, format_timedelta
from babel.lists import format_list
from babel.units import format_unit
from markupsafe import Markup, escape

_MESSAGES: Final = Path(__file__).with_name("messages")
_PLURALS: Final = frozenset({"zero", "one", "two", "few", "many", "other"})
_RANGE: Final = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,40})?|\*")
_QUALITY: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_A_MINUTE: Final = timedelta(minutes=1)
_MOST_RANGES: Final = 16
_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
DEFAULT: Final = "en"
"""The language of whoever asks for none that is here."""


class Catalogue:
    """The messages of one language."""

    def __init__(self, language: str, messages: Mapping[str, Any]) -> None:
        self.language = language
        self.locale = Locale.parse(language)
        self.messages = dict(_flat(messages))

    def text(self, key: str, **values: Any) -> Markup:
        """The message `key`, filled with `values`: escaped, whatever they hold. KeyError where there is none."""
        message = self.messages[key]
        if not isinstance(message, str):
            message = message[self.locale.plural_form(values["n"])]
        return escape(message).format(**values)

    def has(self, key: str) -> bool:
        """Whether there is a message `key`."""
        return key in self.messages

    def moment(self, when: datetime) -> str:
        """A time as it is written in this language, in UTC."""
        date, time = (format_skeleton(parts, when, UTC, locale=self.locale) for parts in ("yMMMd", "Hm"))
        return f"{date}, {time} UTC"

    def ago(self, when: datetime, now: datetime) -> str:
        """How long before `now`, in words: "3 hours ago"; empty for what is not a minute old."""
        age = now - when
        return format_timedelta(-age, add_direction=True, locale=self.locale) if age >= _A_MINUTE else ""

    def span(self, seconds: int) -> str:
        """A length of time in words: "1 hour and 30 minutes"."""
        parts: list[str] = []
        for unit, length in _UNITS:
            count, seconds = divmod(seconds, length)
            if count or (unit == "second" and not parts):
                parts.append(format_unit(count, f"duration-{unit}", "long", locale=self.locale))
        return format_list(parts, locale=self.locale)


def _flat(messages: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Messages by their dotted keys. A table of nothing but plural categories is a message."""
    for name, message in messages.items():
        if isinstance(message, str) or _PLURALS.issuperset(message):
            yield before + name, message
        else:
            yield from _flat(message, f"{before}{name}.")


CATALOGUES: Final = {path.stem: Catalogue(path.stem, tomllib.loads(path.read_text("utf-8"))) for path in _MESSAGES.glob("*.toml")}
"""Every language that there are messages in."""


def best(accept_language: str) -> Catalogue:
    """The catalogue that a browser likes best (RFC 9110 section 12.5.4). What cannot be read of the header counts for nothing."""
    weights: dict[str, float] = {}
    for part in accept_language.split(",")[:_MOST_RANGES]:
        name, _, parameter = (piece.strip(" \t") for piece in part.partition(";"))
        found, quality = _RANGE.fullmatch(name), _QUALITY.fullmatch(parameter or "q=1")
        if found and quality:
            language = (found[1] or "*").lower()
            weights[language] = max(weights.get(language, 0.0), float(quality[1]))
    rest = weights.get("*", 0.0)
    liked = {language: weights.get(language, rest) for language in sorted(CATALOGUES, key=lambda name: name != DEFAULT)}
    choice = max(liked, key=lambda language: liked[language])
    return CATALOGUES[choice if liked[choice] > 0 else DEFAULT]
