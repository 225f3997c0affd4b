"""A bare httpx2 loop: `python -m loadtests.bench.posts URL AT_ONCE FILE` posts every body of a file and prints how many a second.

FILE holds JSON: [webhook-id, body] of each. Headers are of the size that deliveries have; the signature is always the same.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import uvloop


async def post_all(url: str, at_once: int, bodies: list[tuple[str, str]]) -> float:
    """A second's worth: how many were answered with success, on average."""
    left = iter(bodies)
    limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx2.AsyncClient(limits=limits) as client:
        began = time.perf_counter()
        await asyncio.gather(*(_post(client, url, left) for _ in range(at_once)))
        return len(bodies) / (time.perf_counter() - began)


async def _post(client: httpx2.AsyncClient, url: str, left: Iterator[tuple[str, str]]) -> None:
    for message, body in left:
        headers = {
            "content-type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": "1700000000",
            "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
        }
        answer = await client.post(url, content=body, headers=headers)
        answer.raise_for_status()


def main() -> None:
    url, at_once, file = sys.argv[1:]
    print(uvloop.run(post_all(url, int(at_once), json.loads(Path(file).read_text()))))


if __name__ == "__main__":
    main()
