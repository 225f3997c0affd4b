"""The control plane's HTTP API, as the command line and the demo call it.

The HTTP client is loaded with the first call: `--help` and a mistake in the arguments answer without it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from control_plane.errors import OperatorError

if TYPE_CHECKING:
    import httpx2

_TIMEOUT_SECONDS: Final = 30.0
_STREAM_SECONDS: Final = 300.0
"""Between one part of a long answer and the next."""


class ApiProblem(OperatorError):
    """The control plane's refusal: problem details (RFC 9457). `sentence`: all of it that is not about one field."""

    def __init__(self, status: int, problem: Mapping[str, Any], word: Callable[[str], str] = str) -> None:
        """`word` turns a field's place in the request into what the caller knows it by."""
        self.status = status
        self._problem = problem
        self.code = str(problem.get("code", ""))
        self.faults: list[Mapping[str, Any]] = list(problem.get("errors") or ())
        faults = [f"{word(fault['field'])}: {fault['message']}" for fault in self.faults if fault.get("message")]
        said = problem.get("detail") or problem.get("title") or "not as a control plane does; is CATALYST_URL right?"
        sent = " (CATALYST_API_KEY holds what was sent)" if status == HTTPStatus.UNAUTHORIZED else ""
        answered = f"the control plane answered {status}"
        self.sentence = f"{answered}: {said}{sent}"
        # Once is enough, with the name of the field.
        is_said = any(fault.get("message") == said for fault in self.faults)
        super().__init__(answered if is_said else self.sentence, *faults)

    def worded(self, word: Callable[[str], str]) -> "ApiProblem":
        """The same refusal in other words for its fields."""
        return ApiProblem(self.status, self._problem, word)


class Api:
    """One caller of the control plane. As a context manager it closes its connections."""

    def __init__(self, url: str, key: str) -> None:
        import httpx2

        self.url = url.rstrip("/")
        self.key = key
        self._client = httpx2.Client(base_url=self.url, headers={"x-api-key": key}, timeout=_TIMEOUT_SECONDS, trust_env=False)

    @classmethod
    def from_environ(cls) -> Self:
        """CATALYST_URL and CATALYST_API_KEY. Raises OperatorError."""
        key = os.environ.get("CATALYST_API_KEY", "").strip()
        problems = []
        if not key:
            problems.append("CATALYST_API_KEY is not set: `catalyst bootstrap` gives the first one")
        elif not key.isascii() or not key.isprintable():
            problems.append("CATALYST_API_KEY holds characters that no API key has: copy it again")
        url = os.environ.get("CATALYST_URL", "").strip() or "http://127.0.0.1:8080"
        if not _is_plain(url):
            problems.append(
                "CATALYST_URL cannot be read: write the control plane's http://host:port or https://host, nothing more"
            )
        if problems:
            raise OperatorError(*problems)
        return cls(url, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, **request: Any) -> "httpx2.Response":
        """The JSON answer to one call. ApiProblem where it is a refusal, OperatorError where there is no answer."""
        response = self._answer(method, path, **request)
        if response.content and not _is_json(response):
            raise OperatorError(f"what answers at {self.url} is no control plane: set CATALYST_URL to where it is")
        return response

    def document(self, path: str) -> "httpx2.Response":
        """A policy document as it was written."""
        return self._answer("GET", path)

    def _answer(self, method: str, path: str, **request: Any) -> "httpx2.Response":
        import httpx2

        try:
            response = self._client.request(method, path, **request)
        except httpx2.HTTPError as error:
            raise OperatorError(
                f"no answer from the control plane at {self.url}: {error}. See that it runs there, or set CATALYST_URL"
            ) from error
        self._checked(response)
        return response

    def _checked(self, response: "httpx2.Response") -> None:
        """ApiProblem where an answer, already read, is a refusal."""
        if response.is_error:
            try:
                problem = response.json()
            except ValueError:
                problem = {}
            raise ApiProblem(response.status_code, problem if isinstance(problem, dict) else {})

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST a JSON body; the JSON answer, None where there is none."""
        response = self.call("POST", path, json=body or {})
        return response.json() if response.content else None

    def get(self, path: str, *, timeout: float | None = _TIMEOUT_SECONDS, **parameters: str) -> Any:
        """GET; the JSON answer. `timeout` None: for as long as it takes."""
        return self.call("GET", path, params=parameters, timeout=timeout).json()

    def lines(self, path: str, **parameters: str) -> Iterator[str]:
        """The lines of an answer of any length, as they come. OperatorError where it breaks off."""
        import httpx2

        try:
            with self._client.stream("GET", path, params=parameters, timeout=_STREAM_SECONDS) as response:
                if response.is_error:
                    response.read()
                self._checked(response)
                yield from response.iter_lines()
        except httpx2.HTTPError as error:
            raise OperatorError(f"the answer of the control plane at {self.url} broke off: {error}. Try again") from error

    def pages(self, path: str, **parameters: str) -> Iterator[Any]:
        """The items of a list, page by page."""
        while True:
            page = self.call("GET", path, params=parameters).json()
            yield from page["items"]
            if page["next"] is None:
                return
            parameters["after"] = page["next"]


def ask_sidecar(listener: str, path: str, body: Mapping[str, Any]) -> Any:
    """POST to a sidecar's ops listener, `host:port` or `unix:/path`. OperatorError where it gives no answer or a refusal."""
    import httpx2

    socket = listener.removeprefix("unix:") if listener.startswith("unix:") else None
    try:
        with httpx2.Client(
            base_url=f"http://{'sidecar' if socket else listener}",
            transport=httpx2.HTTPTransport(uds=socket),
            timeout=_TIMEOUT_SECONDS,
        ) as client:
            response = client.post(path, json=body)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise OperatorError(
            f"no answer from a sidecar at {listener}: {error}. See that it runs there, or set CATALYST_SIDECAR_OPS_LISTEN"
        ) from error
    if response.is_error:
        raise OperatorError(f"the sidecar at {listener} answered {response.status_code}: {response.text.strip()}")
    if not _is_json(response):
        raise OperatorError(f"what answers at {listener} is no sidecar: set CATALYST_SIDECAR_OPS_LISTEN to where it is")
    return response.json()


def fetch(url: str) -> str:
    """What stands at a public URL. OperatorError where nothing does."""
    import httpx2

    try:
        return httpx2.get(url, timeout=_TIMEOUT_SECONDS, trust_env=False).raise_for_status().text
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise OperatorError(f"no answer from {url}: {error}") from error


def _is_json(response: "httpx2.Response") -> bool:
    return response.headers.get("content-type", "").startswith("application/json")


def _is_plain(url: str) -> bool:
    """Whether a URL is one of HTTP that holds no password: URLs are shown."""
    import httpx2

    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.host) and not parts.userinfo
