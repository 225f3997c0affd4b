"""Who gains and who loses which routes between two policies: one of each class of people asks one request of each region, twice.

The answers are those of `decide`, the function that sidecars call. Regions that the same rules are about in both policies are not
asked: there the answers are the same. Pure; takes seconds for large documents: not for an event loop.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, product
from typing import Final

from control_plane.policies.paths import request as request_of
from control_plane.policies.people import PeopleClass, Vocabulary, vocabulary
from control_plane.policies.regions import Region, regions
from sidecar.policy import CompiledPolicy, decide
from sidecar.policy.compile import Leaf
from sidecar.policy.match import Condition, attribute
from sidecar.policy.model import ANONYMOUS, CanonicalRequest, Effect, Principal

MOST_REGIONS: Final = 50_000
"""Looked at in one comparison."""
MOST_ANSWERS: Final = 2_000_000
"""Asked for in one comparison: some ten seconds."""

SITUATIONAL: Final = ("mfa", "acr", "max_auth_age", "scopes", "source", "time")
"""What depends on the login, the key, the place or the hour, and not on who somebody is."""

NOBODY: Final = -1
"""The index of who comes without a credential."""

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
ANY_OTHER: Final = "*"
"""Stands for each method that no rule of the region names."""

Own = tuple[tuple[int, str], ...]
"""Which segments (by position, from 0) are the asking person's own, and which attribute each is."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is assumed of every request: from where, when."""

    client: IPv4Address | IPv6Address
    now: float


@dataclass(frozen=True, slots=True)
class Route:
    """Requests of a region by these methods; where segments are compared with who asks, those of `own` are their own, others not.

    `sequences`: the ambiguous sequences in the path. `sample`: one of the requests.
    """

    region: Region
    methods: tuple[str, ...]
    own: Own
    sequences: frozenset[str]
    sample: CanonicalRequest
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Who gains and who loses a route, and for whom a situation other than the assumed one decides: indexes of classes."""

    route: Route
    gain: tuple[int, ...]
    lose: tuple[int, ...]
    conditional: tuple[int, ...]


@dataclass(slots=True)
class Comparison:
    """All differences; `asked` is the number of answers; `truncated` says what was not looked at (empty: everything was)."""

    differences: list[Difference] = field(default_factory=list)
    asked: int = 0
    truncated: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where two policies could differ: the regions that different rules are about, each once, and what their rules name.

    `is_cut`: there are more regions than are looked at.
    """

    before: CompiledPolicy
    after: CompiledPolicy
    regions: Sequence[Region]
    words: Vocabulary
    is_cut: bool


def survey(before: CompiledPolicy, after: CompiledPolicy, hosts: Collection[str]) -> Ground:
    """Where two policies of an application with these hosts could differ, whoever asks."""
    found: dict[object, Region] = {}
    is_cut = False
    for number, region in enumerate(regions(before, after, hosts)):
        if number == MOST_REGIONS:
            is_cut = True
            break
        if any(_decisive(old) != _decisive(new) for old, new in (_about(region, method) for method in _methods(region))):
            known = found.setdefault(region.key, region)
            if not any(map(known.is_described_by, known.leaves)) and any(map(region.is_described_by, region.leaves)):
                found[region.key] = region
    rules = list({id(leaf.rule): leaf.rule for region in found.values() for leaf in region.leaves}.values())
    literals = {text for region in found.values() for step in region.steps for text in (*step.others, step.text or "")}
    return Ground(before, after, list(found.values()), vocabulary(rules, literals), is_cut)


def compare(ground: Ground, people: Sequence[PeopleClass], situation: Situation) -> Comparison:
    """Every difference between the two policies for these people and for who comes without a credential."""
    result = Comparison(truncated=[f"only the first {MOST_REGIONS} kinds of paths were looked at"] if ground.is_cut else [])
    foreign = _foreign(ground, people)
    for region in ground.regions:
        for method in _methods(region):
            about = _about(region, method)
            if _decisive(about[0]) == _decisive(about[1]):
                continue
            if result.asked >= MOST_ANSWERS:
                result.truncated.append(f"only the first {result.asked} answers were asked for: change fewer rules at once")
                return _merged(result)
            trial = _Trial(region, method, about, foreign, situation)
            result.differences += trial.run(ground.before, ground.after, people)
            result.asked += trial.asked
    return _merged(result)


def _decisive(leaves: Iterable[Leaf]) -> frozenset[object]:
    """All that decides about the effect of these rules, once the method is theirs."""
    return frozenset((leaf.allows, leaf.anonymous, frozenset(leaf.firm + leaf.login), leaf.opens) for leaf in leaves)


def _foreign(ground: Ground, people: Iterable[PeopleClass]) -> str:
    """A text that no rule names, and that is nobody's own."""
    own = {attribute(someone.principal, name) for someone in people for name in ground.words.attributes}
    taken = ground.words.literals | own
    text = "sample"
    while any(other.startswith(text) for other in taken):
        text += "-x"
    return text


def _methods(region: Region) -> tuple[str, ...]:
    """The methods that rules of the region name, and one that none does, last."""
    named = sorted({method for leaf in region.leaves for method in leaf.methods})
    return (*named, next((method for method in _METHODS if method not in named), "X-OTHER"))


def _about(region: Region, method: str) -> tuple[list[Leaf], list[Leaf]]:
    """The rules of each policy about a method there."""
    sides = (region.before, region.after)
    chosen = [[leaf for leaf in side if not leaf.methods or method in leaf.methods] for side in sides]
    return chosen[0], chosen[1]


def _is_situational(condition: Condition) -> bool:
    """Whether it is about the login, the key, the place or the hour."""
    return condition.name in SITUATIONAL


class _Trial:
    """One region, one method, everybody."""

    def __init__(
        self, region: Region, method: str, about: tuple[list[Leaf], list[Leaf]], foreign: str, situation: Situation
    ) -> None:
        self.region = region
        self.method = method
        self.about = about
        self.foreign = foreign
        self.situation = situation
        self.asked = 0
        self.bound = region.bound
        self.added = _openings(chain(*about), region.exceptions)
        self.asks = {c.name for leaf in chain(*about) for c in (*leaf.firm, *leaf.login) if _is_situational(c)}
        self._requests: dict[tuple[str, ...], CanonicalRequest | None] = {}
        self._found: dict[tuple[Own, frozenset[str]], tuple[CanonicalRequest, list[int], list[int], list[int]]] = {}

    def run(self, before: CompiledPolicy, after: CompiledPolicy, people: Sequence[PeopleClass]) -> Iterator[Difference]:
        """Ask everybody, and nobody."""
        everybody = [*enumerate(someone.principal for someone in people), (NOBODY, ANONYMOUS)]
        for index, principal in everybody:
            for own, added, request in self._questions(principal):
                _, gain, lose, conditional = self._found.setdefault((own, added), (request, [], [], []))
                old, new = (decide(policy, request, principal, self.situation.now).effect for policy in (before, after))
                self.asked += 2
                if old is not new:
                    (gain if new is Effect.ALLOW else lose).append(index)
                elif self.asks and self._shape(0, request, principal) != self._shape(1, request, principal):
                    conditional.append(index)
        for (own, added), (sample, *groups) in self._found.items():
            if any(groups):
                methods = (self.method if any(self.method in leaf.methods for leaf in self.region.leaves) else ANY_OTHER,)
                sequences = self.region.exceptions | added
                route = Route(self.region, methods, own, sequences, sample, tuple(sorted(self.asks)))
                yield Difference(route, *(tuple(group) for group in groups))

    def _questions(self, principal: Principal) -> Iterator[tuple[Own, frozenset[str], CanonicalRequest]]:
        """What there is to ask for a principal: each bound segment its own or not, with each set of ambiguous sequences."""
        choices = [
            [(at, name) for name in ("", *names) if self._is_possible(at, name, principal)] for at, names in self.bound.items()
        ]
        for choice in product(*choices):
            values = {at: attribute(principal, name) if name else self.foreign for at, name in choice}
            own = tuple((at, name) for at, name in choice if name)
            spots = [*self.region.free, *(at for at, name in choice if not name)]
            for added in self.added if spots else [frozenset[str]()]:
                request = self._request(values, spots[0] if spots else 0, added)
                if request is not None:
                    yield own, added, request

    def _is_possible(self, position: int, name: str, principal: Principal) -> bool:
        """Whether a segment can be the principal's own: it has the attribute, and no pattern names it (another region does)."""
        return not name or attribute(principal, name) not in {"", *self.region.steps[position].others}

    def _request(self, values: Mapping[int, str], spot: int, added: frozenset[str]) -> CanonicalRequest | None:
        """The request with these values, sequences added to the segment at `spot`. None where there can be no such request."""
        texts = [values.get(at, self.foreign) if step.text is None else step.text for at, step in enumerate(self.region.steps)]
        if added:
            texts[spot] = "x".join((self.foreign, *sorted(added)))
        segments = tuple(texts)
        if segments not in self._requests:
            self._requests[segments] = request_of(self.method, self.region.host, segments, self.situation.client)
        return self._requests[segments]

    def _shape(self, side: int, request: CanonicalRequest, principal: Principal) -> frozenset[tuple[bool, frozenset[Condition]]]:
        """What one policy's rules still ask of the situation, where all else that they ask holds; without what adds nothing."""
        shapes = set()
        for leaf in self.about[side]:
            if leaf.takes_path(request) and (leaf.anonymous or principal is not ANONYMOUS):
                asked = [*leaf.firm, *leaf.login]
                if all(_is_situational(c) or c.holds(request, principal, self.situation.now) for c in asked):
                    shapes.add((leaf.allows, frozenset(c for c in asked if _is_situational(c))))
        if not any(allows for allows, _ in shapes):
            return frozenset()
        return frozenset(shape for shape in shapes if not _is_covered(shape, shapes))


def _is_covered(shape: tuple[bool, frozenset[Condition]], shapes: Iterable[tuple[bool, frozenset[Condition]]]) -> bool:
    """Whether another rule that asks less decides wherever this one matches: a deny, or one of the same effect."""
    allows, asked = shape
    return any(
        (other_asked < asked and (other_allows is allows or not other_allows))
        or (other_asked == asked and allows and not other_allows)
        for other_allows, other_asked in shapes
    )


def _openings(leaves: Iterable[Leaf], held: frozenset[str]) -> list[frozenset[str]]:
    """Sets of ambiguous sequences beyond those `held`, one for each choice of allow rules that open them; first the empty one."""
    opened = [leaf.opens - held - {"//"} for leaf in leaves if leaf.allows and held <= leaf.opens]
    closed: set[frozenset[str]] = {frozenset()}
    for sequences in set(opened):
        closed |= {sequences} | {sequences & other for other in closed if other}
    return sorted(closed, key=lambda sequences: (len(sequences), sorted(sequences)))


def _merged(result: Comparison) -> Comparison:
    """Differences that are the same for several methods, as one."""
    merged: dict[object, Difference] = {}
    for found in result.differences:
        route, people = found.route, (found.gain, found.lose, found.conditional)
        key = (id(route.region), route.own, route.sequences, route.depends_on, *people)
        known = merged.get(key)
        methods = (*known.route.methods, *route.methods) if known else route.methods
        merged[key] = Difference(Route(route.region, methods, *_rest(known or found)), *people)
    result.differences = sorted(merged.values(), key=lambda found: (found.route.region.path, found.route.region.hosts))
    return result


def _rest(found: Difference) -> tuple[Own, frozenset[str], CanonicalRequest, tuple[str, ...]]:
    route = found.route
    return route.own, route.sequences, route.sample, route.depends_on
