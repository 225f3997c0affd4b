"""The audit chain, without a database: what an event hashes, what a checkpoint says, and what of an export holds.

An event's hash is SHA-256 of the hash before it in its chain (32 zero bytes before the first) and of its text: the event as
PostgreSQL writes a jsonb value, without the members in `_UNHASHED`. Migration 0004 computes the same in the database.

A checkpoint is a compact JWS (RFC 7515), EdDSA, of {iss, iat, org, seq, hash}: at this time the chain of this org (null: the
platform's) ended with this event. One with `dropped` was made by retention: the chain goes on from there, the rest is gone.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TYPE: Final = "audit-checkpoint+jwt"
START: Final = "00" * 32
"""What stands for the hash before a chain's first event."""

_ALGORITHM: Final = "EdDSA"
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGITS: Final = 20
_UNHASHED: Final = frozenset({"address", "address_salt", "previous", "hash"})
"""The address can be forgotten: `address_sha256` stands for it. The hashes are what is made of the rest."""


class Number(str):
    """A number as it was written: Python's own would lose digits that were hashed."""

    __slots__ = ()


class Unreadable(ValueError):
    """A line of an export, or a checkpoint, that is none."""


def parse(line: str | bytes) -> dict[str, Any]:
    """One line of an export, its numbers as they are written. Unreadable where it is no JSON object or names a member twice."""
    try:
        value = json.loads(line, parse_int=Number, parse_float=Number, parse_constant=_refuse, object_pairs_hook=_members)
    except (ValueError, RecursionError) as problem:
        raise Unreadable("it is not JSON") from problem
    if not isinstance(value, dict):
        raise Unreadable("it is not a JSON object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def jsonb_text(value: Any) -> str:
    """A value as PostgreSQL writes a jsonb: members by the length of their names in bytes, then by the bytes."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: (len(encoded := name.encode()), encoded))
        return "{" + ", ".join(f"{_quoted(name)}: {jsonb_text(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(jsonb_text, value)) + "]"
    if isinstance(value, Number):
        return str(value)
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """Python and PostgreSQL escape the same: quotes, backslashes and what is below a space."""
    return json.dumps(text, ensure_ascii=False)


def event_hash(event: Mapping[str, Any]) -> str:
    """The hash that an event must have after what it names as `previous`, in hex. Unreadable where that is no hash."""
    text = jsonb_text({name: value for name, value in event.items() if name not in _UNHASHED})
    try:
        return hashlib.sha256(bytes.fromhex(event["previous"]) + text.encode()).hexdigest()
    except (KeyError, TypeError, ValueError) as problem:
        raise Unreadable("it is not an audit event") from problem


def commitment(salt: str, address: str) -> str:
    """What stands for an address in the chain, in hex; `salt` in hex."""
    return hashlib.sha256(bytes.fromhex(salt) + address.encode()).hexdigest()


# --- checkpoints --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a chain's event was once. `org` None: the platform's chain. `dropped`: retention has dropped it and all before it."""

    org: str | None
    seq: int
    hash: str
    dropped: bool = False


def sign(checkpoint: Checkpoint, issuer: str, issued_at: int, kid: str, private_key: Ed25519PrivateKey) -> str:
    """A checkpoint as a compact JWS. `issued_at`: seconds since 1970."""
    claims: dict[str, Any] = {"iss": issuer, "iat": issued_at, **asdict(checkpoint)}
    if not checkpoint.dropped:
        del claims["dropped"]
    return jwt.encode(claims, private_key, _ALGORITHM, {"kid": kid, "typ": TYPE})


def read_checkpoint(token: str, keys: Mapping[str, jwt.PyJWK] | None) -> Checkpoint:
    """A checkpoint, its signature verified by one of `keys` (by kid); None: as it stands. Unreadable where it does not hold."""
    try:
        head = jwt.get_unverified_header(token)
        if head.get("typ") != TYPE:
            raise Unreadable("it is not a checkpoint")
        if keys is None:
            claims = jwt.decode(token, options={"verify_signature": False})
        elif head.get("kid") not in keys:
            raise Unreadable("its key is not among those given")
        else:
            # A checkpoint is compared with what came much later, by clocks that nobody set: no time of it is checked.
            options: Any = {"verify_iat": False, "verify_aud": False}
            claims = jwt.decode(token, keys[head["kid"]], algorithms=[_ALGORITHM], options=options)
    except jwt.InvalidSignatureError as problem:
        raise Unreadable("its signature is wrong") from problem
    except jwt.PyJWTError as problem:
        raise Unreadable("it is not a checkpoint") from problem
    return _checked(claims)


def _checked(claims: Mapping[str, Any]) -> Checkpoint:
    org, seq, digest, dropped = (claims.get(name) for name in ("org", "seq", "hash", "dropped"))
    if type(seq) is not int or not isinstance(digest, str):
        raise Unreadable("it is not a checkpoint")
    return Checkpoint(_org(org), seq, digest, dropped is True)


def _org(org: Any) -> str | None:
    """An org's id, which is printed, and so is nothing else; None for the platform."""
    if org is not None and not (isinstance(org, str) and _UUID.fullmatch(org)):
        raise Unreadable("it names no org")
    return org


def read_keys(document: Any) -> dict[str, jwt.PyJWK]:
    """The Ed25519 keys of a JSON Web Key Set (RFC 7517) by kid. Unreadable where it is none."""
    try:
        return {jwk["kid"]: jwt.PyJWK(jwk, _ALGORITHM) for jwk in document["keys"]}
    except (jwt.PyJWTError, KeyError, TypeError, AttributeError) as problem:
        raise Unreadable("it is not a JSON Web Key Set of Ed25519 keys") from problem


# --- verification -------------------------------------------------------------------------------------------------------------


class Problem(StrEnum):
    """What can be wrong with an event, or with what should be there."""

    UNREADABLE = "unreadable"
    HASH = "hash"
    LINK = "link"
    GAP = "gap"
    ORDER = "order"
    BEGINNING = "beginning"
    TAIL = "tail"
    CHECKPOINT = "checkpoint"
    SIGNATURE = "signature"
    COMMITMENT = "commitment"


@dataclass(frozen=True, slots=True)
class Broken:
    """The first thing that does not hold. `chain`: an org's id or "platform"; `seq` and `id`: the event's, if there is one."""

    problem: Problem
    detail: str
    chain: str | None = None
    seq: int | None = None
    id: int | None = None

    def __str__(self) -> str:
        """One line for people."""
        place = f"chain {self.chain}, " if self.chain else ""
        number = f"event {self.seq}" + (f" (id {self.id})" if self.id is not None else "") if self.seq else ""
        return f"{place}{number}{': ' if place or number else ''}{self.detail} ({self.problem})"


@dataclass(slots=True)
class _Chain:
    """How far a chain was read."""

    first: int
    seq: int
    hash: str


@dataclass(slots=True)
class Verifier:
    """Takes events in any mixture of chains, each chain in its order, and says what first does not hold.

    `checkpoints`: believed. Anchors, those with `dropped`, tell where a chain may begin. `part`: the events are some of a log
    (an export with filters), so what is missing before, between and behind them is no fault. Memory grows with chains, not
    with events.
    """

    part: bool = False
    events: int = 0
    met: int = 0
    chains: dict[str | None, _Chain] = field(default_factory=dict)
    _known: dict[str | None, dict[int, str]] = field(default_factory=dict)
    _anchors: set[tuple[str | None, int, str]] = field(default_factory=set)

    def believe(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Hold events that come later against these."""
        for checkpoint in checkpoints:
            self._known.setdefault(checkpoint.org, {})[checkpoint.seq] = checkpoint.hash
            if checkpoint.dropped:
                self._anchors.add((checkpoint.org, checkpoint.seq, checkpoint.hash))

    def take(self, event: Mapping[str, Any]) -> Broken | None:
        """The next event: what is wrong with it, None where nothing is."""
        try:
            org, seq, number = _org(event["org"]), int(event["seq"]), int(event["id"])
            previous, digest = event["previous"], event["hash"]
            problem = self._placed(org, seq, previous) or self._wrong(event, org, seq, digest)
        except (Unreadable, AttributeError, KeyError, TypeError, ValueError):
            return Broken(Problem.UNREADABLE, "this is not an audit event of a chain", *_place(event))
        if problem is not None:
            return Broken(*problem, org or "platform", seq, number)
        chain = self.chains.setdefault(org, _Chain(seq, seq, digest))
        chain.seq, chain.hash = seq, digest
        self.events += 1
        return None

    def missing(self) -> Broken | None:
        """Called after the last event: what a checkpoint says was there, and is not."""
        for org, known in () if self.part else self._known.items():
            last = max(known)
            end = self.chains[org].seq if org in self.chains else 0
            if end < last and (org, last, known[last]) not in self._anchors:
                return Broken(Problem.TAIL, f"missing: a checkpoint says that there were {last}", org or "platform", end + 1)
        return None

    def _placed(self, org: str | None, seq: int, previous: str) -> tuple[Problem, str] | None:
        """Whether the event follows the one before."""
        before = self.chains.get(org)
        if before is None:
            if self.part or (seq == 1 and previous == START) or (org, seq - 1, previous) in self._anchors:
                return None
            return Problem.BEGINNING, "what came before is missing, and nothing that can be believed says that it was dropped"
        if seq <= before.seq:
            return Problem.ORDER, f"it comes after event {before.seq}"
        if seq > before.seq + 1:
            return None if self.part else (Problem.GAP, f"the events before it from {before.seq + 1} on are missing")
        if previous != before.hash:
            return Problem.LINK, f"it does not follow from event {before.seq}: one of the two was changed"
        return None

    def _wrong(self, event: Mapping[str, Any], org: str | None, seq: int, digest: str) -> tuple[Problem, str] | None:
        """Whether the event is what was written, and what checkpoints say that it was."""
        if event_hash(event) != digest:
            return Problem.HASH, "it was changed: its text and its hash differ"
        if event["address"] is not None and commitment(event["address_salt"], event["address"]) != event["address_sha256"]:
            return Problem.COMMITMENT, "its address was changed"
        known = self._known.get(org)
        if known is not None and seq in known:
            self.met += 1
            if known[seq] != digest:
                return Problem.CHECKPOINT, "it is not what a checkpoint says that it was: the chain was written anew"
        return None


def _place(event: Mapping[str, Any]) -> tuple[str | None, int | None, int | None]:
    """Which event it wants to be, for as much as can be read."""
    org = event.get("org")
    numbers = (event.get(name) for name in ("seq", "id"))
    seq, number = (int(one) if isinstance(one, Number) and len(one) < _DIGITS and one.isdecimal() else None for one in numbers)
    return (org if isinstance(org, str) and _UUID.fullmatch(org) else None), seq, number


@dataclass(slots=True)
class Report:
    """What came of a verification. `signatures`: whether the checkpoints' were verified; None where there were no checkpoints."""

    broken: Broken | None
    events: int
    chains: int
    checkpoints: int
    signatures: bool | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return self.broken is None


def verify(
    lines: Iterable[str | bytes],
    checkpoints: Iterable[str] = (),
    keys: Mapping[str, jwt.PyJWK] | None = None,
    *,
    part: bool = False,
) -> Report:
    """Verify the lines of an export against itself and against checkpoints (compact JWS) that were kept elsewhere.

    With `keys` their signatures are verified, and the anchors in the export believed; without, checkpoints are taken as they
    stand and an export whose beginning was dropped does not hold.
    """
    verifier = Verifier(part)
    tokens = list(checkpoints)
    broken = _believe(verifier, tokens, keys) or next(_taken(verifier, lines, keys), None) or verifier.missing()
    return Report(broken, verifier.events, len(verifier.chains), verifier.met, None if not tokens else keys is not None)


def _believe(verifier: Verifier, tokens: Iterable[str], keys: Mapping[str, jwt.PyJWK] | None) -> Broken | None:
    for number, token in enumerate(tokens, 1):
        try:
            verifier.believe([read_checkpoint(token, keys)])
        except Unreadable as problem:
            return Broken(Problem.SIGNATURE, f"checkpoint {number} cannot be believed: {problem}")
    return None


def _taken(verifier: Verifier, lines: Iterable[str | bytes], keys: Mapping[str, jwt.PyJWK] | None) -> Iterator[Broken]:
    """What is wrong with each line that is."""
    for number, line in enumerate(lines, 1):
        try:
            value = parse(line)
            if "checkpoint" not in value:
                broken = verifier.take(value)
            else:
                broken = _believe(verifier, [str(value["checkpoint"])], keys) if keys is not None else None
        except Unreadable as problem:
            broken = Broken(Problem.UNREADABLE, f"line {number} cannot be read: {problem}")
        if broken is not None:
            yield broken
