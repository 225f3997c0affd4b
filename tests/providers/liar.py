"""An OpenID provider of our own: honest by default, and with a switch for each lie.

In a thread: `with Liar() as liar:`; then `liar.lies.add("wrong_nonce")`, `liar.auto = "alice"`, `liar.rotate()`.
As a process: `python -m tests.providers.liar --port 9400`; the same by HTTP at /control (`Liar.control` says what it takes).

Whom it logs in, without a form: who has its cookie, else who `login_hint` names (subject or e-mail) where `follow_hint`, else
`auto`. Otherwise a form with one field. The client `catalyst` may send people back to any address.
"""

import argparse
import asyncio
import json
import socket
import threading
import time
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.liar_endpoints import Endpoints
from tests.providers.liar_world import LIES, Client, Person


class Liar(Endpoints):
    """`issuer` is known from the start; it is answered between `with` and the end of it."""

    def __init__(self, port: int = 0, algorithm: str = "RS256") -> None:
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.issuer = "http://{}:{}".format(*self._socket.getsockname())
        super().__init__(self.issuer, algorithm)
        self._server: uvicorn.Server
        self._thread: threading.Thread | None = None

    # --- running --------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run)
        self._server = self._new_server()
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the provider does not start"
            time.sleep(0.002)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        assert self._thread is not None
        self._thread.join(10)

    def run(self) -> None:
        """Serve until told to stop."""
        server = self._server = getattr(self, "_server", None) or self._new_server()
        asyncio.run(server.serve([self._socket]))

    def _new_server(self) -> uvicorn.Server:
        quiet: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none"}
        return uvicorn.Server(uvicorn.Config(self.app(), timeout_graceful_shutdown=1, **quiet))

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[*self.routes(), Route("/control", self._control, methods=["GET", "POST"])])

    # --- what a test says to it -----------------------------------------------------------------------------------------------

    async def control(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """What /control takes, any of these together.

        `lies`, `auto`, `follow_hint`, `token_seconds`, `rotate` (algorithm or null, and `keep`), `client` (fields of Client),
        `person` (fields of Person), `logout` (subject), `access_token` (its arguments).
        """
        if unknown := set(wanted.get("lies", ())) - LIES:
            raise ValueError(f"no such lie: {', '.join(sorted(unknown))}")
        if "lies" in wanted:
            self.lies = set(wanted["lies"])
        for name in ("auto", "follow_hint", "token_seconds"):
            if name in wanted:
                setattr(self, name, wanted[name])
        if "rotate" in wanted:
            self.rotate(wanted["rotate"], keep=wanted.get("keep", 1))
        if "client" in wanted:
            self.clients[wanted["client"]["id"]] = Client(**wanted["client"])
        if "person" in wanted:
            self.people[wanted["person"]["subject"]] = Person(**wanted["person"])
        said: dict[str, Any] = {"issuer": self.issuer, "lies": sorted(self.lies), "auto": self.auto, "requests": self.requests}
        if "logout" in wanted:
            said["logout"] = await self.send_logout(wanted["logout"])
        if "access_token" in wanted:
            said["access_token"] = self.access_token(**wanted["access_token"])
        return said

    async def _control(self, request: Request) -> Response:
        try:
            return JSONResponse(await self.control(await request.json() if request.method == "POST" else {}))
        except (ValueError, TypeError, KeyError) as problem:
            return JSONResponse({"error": str(problem)}, 400)


def main() -> None:
    """Serve until told to stop; the first line printed is JSON with the issuer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--algorithm", default="RS256", choices=("RS256", "ES256", "EdDSA"))
    parser.add_argument("--auto", help="whom to log in without a form")
    given = parser.parse_args()
    liar = Liar(given.port, given.algorithm)
    liar.auto = given.auto
    print(json.dumps({"issuer": liar.issuer}), flush=True)
    liar.run()


if __name__ == "__main__":
    main()
