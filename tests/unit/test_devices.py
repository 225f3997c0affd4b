"""What people recognise their browser by."""

import pytest

from control_plane.sessions.devices import device

MOZILLA = "Mozilla/5.0"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"

AGENTS = {
    f"{MOZILLA} (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0": "Firefox on Linux",
    f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/141.0.0.0 Safari/537.36": "Chrome on Windows",
    f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0": "Edge on Windows",
    f"{MOZILLA} (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15": "Safari on Mac",
    f"{MOZILLA} (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
    f"{MOZILLA} (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/141.0 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
    f"{MOZILLA} (Linux; Android 10; K) {WEBKIT} Chrome/141.0.0.0 Mobile Safari/537.36": "Chrome on Android",
    f"{MOZILLA} (Linux; Android 10; K) {WEBKIT} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36": "Samsung Internet on Android",
    f"{MOZILLA} (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/141.0.0.0 Safari/537.36": "Chrome on ChromeOS",
    f"{MOZILLA} (X11; Linux x86_64) {WEBKIT} HeadlessChrome/141.0.0.0 Safari/537.36": "Chrome on Linux",
    f"{MOZILLA} (X11; Linux x86_64) {WEBKIT} Chrome/141.0.0.0 Safari/537.36 OPR/125.0.0.0": "Opera on Linux",
    "curl/8.14.1": "curl",
    "Something else entirely (Windows)": "Windows",
    "": "",
    "canary-word": "",
    "x" * 1000 + "Firefox/1.0": "",
}


@pytest.mark.parametrize(("agent", "words"), AGENTS.items())
def test_a_browser_is_named_in_a_few_words_of_ours(agent: str, words: str) -> None:
    assert device(agent) == words
