"""Requests to the token endpoint, as its clients make them."""

from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx2

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
API_KEY = "urn:catalyst:params:oauth:token-type:api-key"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"

http = httpx2.Client(timeout=20, verify=False)
"""One for all requests: a new one for each would read the machine's certificates every time."""


def exchange(token: str, kind: str = API_KEY, **more: str) -> dict[str, str]:
    """The parameters of a token exchange."""
    return {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": kind, **more}


def basic(name: str, secret: str) -> tuple[str, str]:
    """Basic as RFC 6749 section 2.3.1 wants it."""
    return quote_plus(name), quote_plus(secret)


def ask(url: str, parameters: dict[str, str] | list[tuple[str, str]], **more: Any) -> httpx2.Response:
    """One request; what no answer of the endpoint may lack is looked at."""
    headers = {"content-type": "application/x-www-form-urlencoded", **more.pop("headers", {})}
    answer = http.post(f"{url}/oauth/token", content=urlencode(parameters), headers=headers, **more)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    return answer


def token_of(url: str, parameters: dict[str, str], **more: Any) -> Any:
    """The answer to a request that is granted."""
    answer = ask(url, parameters, **more)
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "Bearer"
    return answer.json()


def refused(url: str, parameters: dict[str, str] | list[tuple[str, str]], **more: Any) -> tuple[int, str, str]:
    """Status, error and description of a request that is not."""
    answer = ask(url, parameters, **more)
    assert answer.status_code >= 400, answer.text
    said = answer.json()
    assert set(said) == {"error", "error_description"}
    # RFC 6749 section 5.2.
    assert all(" " <= letter <= "~" and letter not in '"\\' for letter in said["error_description"]), said
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    return answer.status_code, said["error"], said["error_description"]
