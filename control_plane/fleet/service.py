"""The head revision, the sidecars that follow it, and the workers that tell webhooks of it."""

import json
from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Work
from control_plane.db.queries import load
from control_plane.fleet.models import Head, Sidecar, Worker
from control_plane.paging import Page, page, read_cursor

SQL = load(Path(__file__).with_name("queries.sql"))

_PUBLIC_MEMBERS: Final = ("kty", "crv", "x", "kid", "alg", "use")


async def head(work: Work) -> Head:
    """The last committed revision."""
    return Head.model_validate(dict(await work.connection.fetchrow(SQL.head)))


async def list_(work: Work, limit: int, after: str | None) -> Page[Sidecar]:
    """Every sidecar that has reported and was not forgotten yet."""
    rows = await work.connection.fetch(SQL.list, *read_cursor(after, UUID), limit + 1)
    return page(rows, limit, lambda row: Sidecar.model_validate(dict(row)), lambda row: (row["id"],))


async def list_workers(work: Work, limit: int, after: str | None) -> Page[Worker]:
    """Every worker that has not signed off or been taken for dead."""
    rows = await work.connection.fetch(SQL.list_workers, *read_cursor(after, UUID), limit + 1)
    return page(rows, limit, lambda row: Worker.model_validate(dict(row)), lambda row: (row["id"],))


async def reached(work: Work) -> int:
    """The revision that every live sidecar has reached."""
    revision: int = await work.connection.fetchval(SQL.reached)
    return revision


async def assertion_keys(work: Work) -> list[dict[str, str]]:
    """Public halves of the keys that live sidecars sign `x-decision-jwt` with: Ed25519 (RFC 8037), public members only."""
    found = [json.loads(row["jwk"]) for row in await work.connection.fetch(SQL.assertion_keys)]
    return [_public(jwk) for jwk in found if jwk.get("kty") == "OKP" and isinstance(jwk.get("kid"), str)]


async def signer(work: Work, kid: str) -> tuple[list[UUID], dict[str, str]] | None:
    """The key that live sidecars registered with this id, and which sidecars; None where there is none. The first has it."""
    found = [(row["id"], json.loads(row["jwk"])) for row in await work.connection.fetch(SQL.signers, kid)]
    if not found or found[0][1].get("kty") != "OKP":
        return None
    key = _public(found[0][1])
    return [sidecar for sidecar, jwk in found if _public(jwk) == key], key


def _public(jwk: dict[str, str]) -> dict[str, str]:
    return {name: jwk[name] for name in _PUBLIC_MEMBERS if isinstance(jwk.get(name), str)}
