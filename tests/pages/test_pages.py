"""The pages themselves: their texts, their HTML, what they let in."""

import re

import pytest

from control_plane.login.catalogue import CATALOGUES, best
from control_plane.login.pages import page_in
from tests.pages.samples import LANGUAGES, samples

SAMPLES = list(samples())


def shown(sample, language="en", **values):
    return page_in(language, sample.template, place="auth.example.com", request_id="4f3c", **(sample.values | values))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_page_says_its_language_and_lets_nothing_in(sample, language):
    answer = shown(sample, language)
    html = answer.body.decode()
    assert f'<html lang="{language}" dir="ltr">' in html
    assert "<script" not in html
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"


def test_all_languages_say_the_same_things():
    english = CATALOGUES["en"].messages
    for catalogue in CATALOGUES.values():
        assert catalogue.messages.keys() == english.keys()
        for key, message in catalogue.messages.items():
            assert placeholders(message) == placeholders(english[key]), key


def placeholders(message):
    texts = [message] if isinstance(message, str) else message.values()
    return {frozenset(re.findall(r"\{(\w+)\}", text)) for text in texts}


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
