"""Refusals of the token endpoint: JSON with `error` and `error_description` (RFC 6749 section 5.2)."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import JSONResponse

HEADERS: Final = {"cache-control": "no-store", "pragma": "no-cache"}
"""Of every answer of the token endpoint (RFC 6749 section 5.1)."""

_CHALLENGE: Final = {"www-authenticate": 'Basic realm="catalyst"'}
_UNAUTHORIZED: Final = 401


class TokenRefused(Exception):
    """No token. `description` is one sentence in ASCII without quotes and backslashes; it holds nothing that was sent.

    `guess`: whoever asks need not have known any secret, so it is counted as a failed attempt.
    """

    def __init__(self, error: str, description: str, status: int = 400, *, guess: bool = False, retry_after: int = 0) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.guess = guess
        self.retry_after = retry_after

    def answer(self) -> JSONResponse:
        """What the client is sent."""
        headers: Mapping[str, str] = HEADERS | (_CHALLENGE if self.status == _UNAUTHORIZED else {})
        if self.retry_after:
            headers = {**headers, "retry-after": str(self.retry_after)}
        return JSONResponse({"error": self.error, "error_description": self.description}, self.status, headers)


def malformed(description: str) -> TokenRefused:
    """400: the request says too little, too much or nothing that can be read."""
    return TokenRefused("invalid_request", description)


def no_client(description: str, *, guess: bool = False) -> TokenRefused:
    """401: the client did not prove who it is."""
    return TokenRefused("invalid_client", description, _UNAUTHORIZED, guess=guess)
