"""What is known so far about the request in hand."""

from dataclasses import dataclass

from sidecar.dialects import Question
from sidecar.dialects.routes import NOWHERE, Route
from sidecar.http.head import Head
from sidecar.policy.model import CanonicalRequest


@dataclass(slots=True)
class Asked:
    """A request on its way to an answer. An error on the way finds here what it needs to answer.

    `by_cookie`: whether the credential that was looked at is a cookie, which only browsers send. `login_path`: whether the path
    is one of the login's own, which no policy is asked about.
    """

    head: Head
    route: Route = NOWHERE
    question: Question | None = None
    request: CanonicalRequest | None = None
    by_cookie: bool = False
    login_path: bool = False

    @property
    def origin(self) -> str:
        """Scheme, canonical host and port of the application, as the client reaches it; empty where they are not known."""
        if self.request is None:
            return ""
        port = self.port
        return f"{self.request.scheme}://{self.request.host}" + (f":{port}" if port else "")

    @property
    def port(self) -> str:
        """The port that the client named; empty where it named none."""
        if self.question is None:
            return ""
        _, _, port = self.question.host.decode("latin-1").rpartition("]")[2].partition(":")
        return port if port.isdecimal() and port.isascii() else ""
