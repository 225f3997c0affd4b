"""The control plane's HTTP API, as the command line and the demo call it."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

import httpx2

from control_plane.errors import OperatorError

_TIMEOUT_SECONDS: Final = 30.0


class ApiProblem(OperatorError):
    """The control plane's refusal: problem details (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.faults: list[Mapping[str, Any]] = list(problem.get("errors") or ())
        faults = [f"{fault['field']}: {fault['message']}" for fault in self.faults if fault.get("message")]
        super().__init__(f"the control plane answered {status}: {problem.get('detail') or problem.get('title')}", *faults)


class Api:
    """One caller of the control plane. As a context manager it closes its connections."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self.key = key
        self._client = httpx2.Client(base_url=self.url, headers={"x-api-key": key}, timeout=_TIMEOUT_SECONDS, trust_env=False)

    @classmethod
    def from_environ(cls) -> Self:
        """CATALYST_URL and CATALYST_API_KEY. Raises OperatorError."""
        key = os.environ.get("CATALYST_API_KEY")
        if not key:
            raise OperatorError("CATALYST_API_KEY is not set: `catalyst bootstrap` gives the first one")
        return cls(os.environ.get("CATALYST_URL") or "http://127.0.0.1:8080", key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """The answer to one call. ApiProblem where it is a refusal, OperatorError where there is no answer."""
        try:
            response = self._client.request(method, path, **request)
        except httpx2.HTTPError as error:
            raise OperatorError(f"no answer from the control plane at {self.url} (CATALYST_URL): {error}") from error
        if response.is_error:
            try:
                problem = response.json()
            except ValueError:
                problem = {}
            raise ApiProblem(response.status_code, problem if isinstance(problem, dict) else {})
        return response

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST a JSON body; the JSON answer, None where there is none."""
        response = self.call("POST", path, json=body or {})
        return response.json() if response.content else None

    def get(self, path: str, **parameters: str) -> Any:
        """GET; the JSON answer."""
        return self.call("GET", path, params=parameters).json()

    def pages(self, path: str) -> Iterator[Any]:
        """The items of a list, page by page."""
        after: str | None = None
        while True:
            page = self.get(path, **({"after": after} if after else {}))
            yield from page["items"]
            after = page["next"]
            if after is None:
                return


def post_json(url: str, body: Mapping[str, Any]) -> Any:
    """POST to a listener that wants no credential. Raises OperatorError where it gives no answer or a refusal."""
    try:
        response = httpx2.post(url, json=body, timeout=_TIMEOUT_SECONDS, trust_env=False)
    except httpx2.HTTPError as error:
        raise OperatorError(f"no answer from {url}: {error}") from error
    if response.is_error:
        raise OperatorError(f"{url} answered {response.status_code}: {response.text.strip()}")
    return response.json()
