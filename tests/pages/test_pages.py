"""The pages themselves: their texts, their HTML, what they let in."""

import copy
import gzip
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import html5lib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.login import pages
from control_plane.login.catalogue import CATALOGUES, Catalogue, best
from control_plane.login.pages import TEMPLATES, page_in
from control_plane.oidc.refused import Code
from tests.pages.samples import LANGUAGES, Sample, samples

SAMPLES = list(samples())
SHAPES = list({sample.template: sample for sample in reversed(SAMPLES)}.values())
"""One page of each template."""
HOSTILE = Path(__file__).with_name("hostile.txt").read_text("utf-8").splitlines()
HTML = "{http://www.w3.org/1999/xhtml}"


def shown(sample, language="en", **values):
    return page_in(language, sample.template, place="auth.example.com", request_id="4f3c", **(sample.values | values))


def parsed(html: bytes | str) -> Any:
    """The document, where a strict parser finds no fault in it."""
    text = html if isinstance(html, str) else html.decode()
    return html5lib.HTMLParser(strict=True).parse(text)


every_page = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


@every_page
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_html_that_lets_nothing_in(sample, language):
    answer = shown(sample, language)
    document = parsed(answer.body)
    assert (document.get("lang"), document.get("dir")) == (language, "ltr")
    assert len(document.findall(f".//{HTML}h1")) == len(document.findall(f".//{HTML}main")) == 1
    assert document.find(f".//{HTML}script") is None
    assert not [name for element in document.iter() for name in element.attrib if name == "style" or name.startswith("on")]
    ids = [element.get("id") for element in document.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in document.iter():
        named = f"{element.get('aria-describedby', '')} {element.get('for', '')}".split()
        assert set(named) <= set(ids)


def test_the_policy_lets_in_the_style_sheet_and_nothing_else():
    headers = page_in("en", "signed_in", place="auth.example.com", request_id="").headers
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]+'; img-src data:; "
        r"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        headers["content-security-policy"],
    )
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["vary"] == "accept-language"
    assert "url(" not in pages._STYLE
    assert "@import" not in pages._STYLE


@every_page
def test_a_page_is_small(sample):
    assert len(gzip.compress(shown(sample, "de").body)) < 4096


class Silent(Catalogue):
    """Says the names of its messages, and nothing of times."""

    def __init__(self) -> None:
        super().__init__("en", {})
        self.messages = {key: f"⟦{key}⟧" for key in CATALOGUES["en"].messages}

    def moment(self, when):
        return "⟦⟧"

    def ago(self, when, now):
        return "⟦⟧"

    def span(self, seconds):
        return "⟦⟧"


@every_page
def test_no_template_says_anything_by_itself(sample, monkeypatch):
    monkeypatch.setattr(pages, "best", lambda _header: Silent())
    document = parsed(shown(sample).body)
    ours = [text for text in words(document) if re.search(r"\w", re.sub(r"⟦[^⟧]*⟧|auth\.example\.com", "", text))]
    given_ = [text.strip() for _, text in strings(sample.values)]
    assert [text for text in ours if text.strip() not in given_] == []


def words(document: Any) -> Iterator[str]:
    """What people are told, in text and in attributes."""
    for element in document.iter():
        yield from (element.get(name, "") for name in ("title", "alt", "placeholder", "aria-label"))
        if element.tag != f"{HTML}style":
            yield element.text or ""
        yield element.tail or ""


@every_page
def test_every_message_of_a_page_is_used_with_the_values_that_it_wants(sample):
    for language in LANGUAGES:
        assert "{" not in re.sub(r"<style>.*?</style>", "", shown(sample, language).body.decode(), flags=re.DOTALL)


def strings(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every text among a page's values, with the way to it."""
    if isinstance(values, str):
        yield path, values
    elif isinstance(values, dict):
        for name, value in values.items():
            yield from strings(value, (*path, name))
    elif isinstance(values, list):
        for place, value in enumerate(values):
            yield from strings(value, (*path, place))
    elif hasattr(values, "__dataclass_fields__"):
        yield from strings(vars(values), path)


def with_text(values: Any, path: tuple[Any, ...], text: str) -> Any:
    """The same values with another text in one place."""
    changed = here = copy.deepcopy(values)
    for step in path[:-1]:
        here = here[step] if isinstance(here, dict | list) else getattr(here, step)
    if isinstance(here, dict | list):
        here[path[-1]] = text
    else:
        setattr(here, path[-1], text)
    return changed


def shape(html: bytes) -> list[Any]:
    """Every element with the names of its attributes."""
    document = html5lib.HTMLParser().parse(html.decode())
    return [(element.tag, *sorted(element.attrib)) for element in document.iter()]


def refuse_change(sample: Sample, text: str) -> int:
    """See that no value of a page can add anything to it; how many were tried. A value from a closed set may be refused."""
    wanted, tried = shape(shown(sample).body), 0
    for path, before in strings(sample.values):
        hostile = f"https://app.example.com/{text}" if before.startswith(("https:", "/")) else text
        changed = Sample(sample.name, sample.template, with_text(sample.values, path, hostile))
        try:
            html = shown(changed).body
        except (KeyError, TypeError):
            assert path[0] in {"ended", "missing", "needs", "problem", "where"}, path
            continue
        tried += 1
        assert shape(html) == wanted or path[0] in {"code", "cause"}, path
        assert b"<script" not in html
    return tried


@pytest.mark.parametrize("text", HOSTILE)
def test_no_value_adds_anything_to_a_page(text):
    assert sum(refuse_change(sample, text) for sample in SHAPES) > 40


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(lambda text: f"x{text}"), data=st.data())
def test_no_text_whatever_adds_anything_to_a_page(text, data):
    refuse_change(data.draw(st.sampled_from(SHAPES)), text)


@pytest.mark.parametrize("name", ["place", "request_id"])
@pytest.mark.parametrize("text", HOSTILE)
def test_nor_does_what_every_page_shows(name, text):
    values = {"place": "auth.example.com", "request_id": "4f3c"}
    wanted = shape(page_in("en", "error", code="not_found", **values).body)
    assert shape(page_in("en", "error", code="not_found", **(values | {name: text})).body) == wanted


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "\tjavascript:alert(1)",
        "vbscript:x",
        "data:text/html,x",
        " https://x.example",
        "evil.example",
        "//evil.example",
        "/\\evil.example",
        "https:///x",
        "https:evil.example",
        "http:\\\\evil.example",
    ],
)
def test_no_page_links_to_what_is_no_web_address(url):
    with pytest.raises(ValueError, match="no web address"):
        page_in("en", "onward", place="", request_id="", to=url, host="x")


def test_all_languages_say_the_same_things():
    english = CATALOGUES["en"].messages
    for catalogue in CATALOGUES.values():
        assert catalogue.messages.keys() == english.keys()
        for key, message in catalogue.messages.items():
            assert placeholders(message) == placeholders(english[key]), key
            if not isinstance(message, str):
                assert message.keys() == catalogue.locale.plural_form.tags | {"other"}


def placeholders(message):
    texts = [message] if isinstance(message, str) else message.values()
    return {frozenset(re.findall(r"\{(\w+)\}", text)) for text in texts}


def test_every_message_is_shown_somewhere():
    """By name in a template, or as the reason of a code."""
    named = "".join(
        Path(path).read_text("utf-8") for name in TEMPLATES.list_templates() if (path := TEMPLATES.get_template(name).filename)
    )
    for key in CATALOGUES["en"].messages:
        known = f'"{key}"' in named or f"'{key}'" in named
        assert known or f'"{key.rpartition(".")[0]}."' in named or key.startswith("reason."), key


def codes() -> set[str]:
    """Every code that a login can be refused with: of the protocol, and as they stand in the login's own code."""
    lines = itertools.chain(*(path.read_text("utf-8").splitlines() for path in Path(pages.__file__).parent.glob("*.py")))
    named = {
        code
        for line in lines
        if "LoginRefused(" in line or " code = " in line
        for code in re.findall(r'(?<!way=)"([a-z_]+)"', line)
    }
    return {*Code} | named


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_code_says_something_of_its_own(code):
    for language in LANGUAGES:
        assert CATALOGUES[language].has(f"reason.{pages.said_for(code)}.title"), code


def test_numbers_are_told_in_the_languages_own_way():
    sample = next(sample for sample in SAMPLES if sample.name == "sessions_others_ended")
    for count, english, german in (
        (1, "1 other session has", "1 andere Sitzung ist"),
        (2, "2 other sessions", "2 andere Sitzungen"),
    ):
        assert english in shown(sample, "en", ended=count).body.decode()
        assert german in shown(sample, "de", ended=count).body.decode()
    assert CATALOGUES["de"].span(5400) == "1 Stunde und 30 Minuten"
    assert CATALOGUES["en"].span(0) == "0 seconds"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-CH, de;q=0.9, en;q=0.8", "de"),
        ("fr, de;q=0.5, en;q=0.7", "en"),
        ("fr-FR, de;q=0.3", "de"),
        ("fr, *;q=0.5", "en"),
        ("*, en;q=0", "de"),
        ("en;q=0, *;q=0", "en"),
        ("DE-de", "de"),
        ("de;q=1.5, en", "en"),
        ("de;q=nan, en;q=0.1", "en"),
        ("../../de", "en"),
        ("," * 5000 + "de", "en"),
        ("de;q=0.5;q=1,en;q=0.4", "en"),
    ],
)
def test_the_language_is_the_one_the_browser_likes_best(header, language):
    assert best(header).language == language
