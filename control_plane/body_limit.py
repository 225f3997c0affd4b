"""How much a caller may send."""

from typing import Final

from fastapi import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES: Final = 2 * 1024 * 1024
"""Room for the largest policy document that anybody should write."""


class BodyLimit:
    """ASGI middleware: 413 for whoever reads on beyond MAX_BODY_BYTES, whatever Content-Length said."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, counting what is read of its body."""
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        await self.app(scope, counted, send)


async def read_within(request: Request, most: int) -> bytes | None:
    """The body where it has at most so many bytes, None where it has more: it is read no further than that."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    return bytes(body)
