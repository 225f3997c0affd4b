"""The applications that a replica knows: their hosts, settings and compiled policies."""

from collections.abc import Callable
from typing import NamedTuple

from sidecar.policy.compile import CompiledPolicy
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.document import PolicyInvalid, parse
from sidecar.replica.kept import Stamped
from sidecar.replica.rows import ApplicationRow, HostRow, PolicyRow, ShadowRow, uuid_text

PolicyReader = Callable[[object], CompiledPolicy]


class OutOfScope(Exception):
    """An application came into this replica's scope whose hosts and policy were not kept: only a full read has them."""


class Shadow(NamedTuple):
    """A draft that is evaluated beside the policy in force and decides nothing. `policy` None: unreadable, as `problem` says."""

    row: ShadowRow
    policy: CompiledPolicy | None
    problem: str


class Application(Stamped):
    """A protected application. `policy` None: nothing published, or nothing that can be read; everything is denied.

    Its stamp stands for its hosts, settings, policy and shadow. `problem` says why a published policy cannot be read.
    """

    __slots__ = ("assertions", "entitlement_prefixes", "hosts", "id", "policy", "problem", "published", "shadow", "slug")

    def __init__(self, key: int) -> None:
        super().__init__()
        self.id = uuid_text(key)
        self.slug = ""
        self.entitlement_prefixes: tuple[str, ...] = ()
        self.assertions = False
        self.hosts: set[str] = set()
        self.published: PolicyRow | None = None
        self.policy: CompiledPolicy | None = None
        self.problem = ""
        self.shadow: Shadow | None = None


def read_policy(document: object) -> CompiledPolicy:
    """The compiled form of a published document. Raises PolicyInvalid.

    The application's hosts were held against it when it was published. They may have changed since, and a rule for a host that is
    no longer served matches nothing: no reason to deny everything else.
    """
    return compile_policy(parse(document))


class Catalogue:
    """Applications by host. With `scope` (slugs), only these are kept."""

    def __init__(self, scope: frozenset[str] | None, read: PolicyReader = read_policy) -> None:
        self.applications: dict[int, Application] = {}
        self.hosts: dict[str, Application] = {}
        self._scope = scope
        self._read = read
        # Applications out of scope, and their hosts: no wildcard's application answers for those.
        self._left_out: set[int] = set()
        self._hosts_left_out: set[str] = set()
        self._to_compile: set[Application] = set()
        # Slugs of applications that deny everything because their policy cannot be read, and why.
        self.unreadable: dict[str, str] = {}
        # The same of shadows, which change nothing for anyone.
        self.unreadable_shadows: dict[str, str] = {}

    def find(self, host: str) -> Application | None:
        """The application of a canonical host: exact, else `*.` with one label left out."""
        found = self.hosts.get(host)
        if found is None and host not in self._hosts_left_out:
            _, dot, rest = host.partition(".")
            found = self.hosts.get("*." + rest) if dot else None
        return found

    def put_application(self, row: ApplicationRow) -> None:
        """Take an application, new or changed. Raises OutOfScope."""
        if self._scope is not None and row.slug not in self._scope:
            known = self.applications.get(row.id)
            hosts = frozenset[str]() if known is None else frozenset(known.hosts)
            self.drop_application(row.id)
            self._left_out.add(row.id)
            self._hosts_left_out |= hosts
            return
        if row.id in self._left_out:
            raise OutOfScope(row.slug)
        application = self.applications.setdefault(row.id, Application(row.id))
        application.slug = row.slug
        application.entitlement_prefixes = row.entitlement_prefixes
        application.assertions = row.assertions
        application.touch()

    def drop_application(self, key: int) -> None:
        """Forget an application with its hosts."""
        self._left_out.discard(key)
        application = self.applications.pop(key, None)
        if application is not None:
            for host in tuple(application.hosts):
                self.drop_host(host)
            self._changed(application)
            application.published, application.shadow = None, None
            self.unreadable_shadows.pop(application.slug, None)

    def put_host(self, row: HostRow) -> None:
        """Give a host to an application, taking it from any other."""
        self.drop_host(row.host)
        if (before := self.find(row.host)) is not None:
            before.touch()  # a wildcard's application answered for this host until now
        if row.application_id in self._left_out:
            self._hosts_left_out.add(row.host)
            return
        application = self.applications[row.application_id]
        self.hosts[row.host] = application
        application.hosts.add(row.host)
        application.touch()

    def drop_host(self, host: str) -> None:
        """Take a host from its application."""
        self._hosts_left_out.discard(host)
        application = self.hosts.pop(host, None)
        if application is not None:
            application.hosts.discard(host)
            application.touch()

    def put_policy(self, row: PolicyRow) -> None:
        """Take the policy in force of an application."""
        if row.application_id not in self._left_out:
            application = self.applications[row.application_id]
            application.published = row
            self._changed(application)

    def drop_policy(self, application_id: int) -> None:
        """From now on the application has no policy."""
        application = self.applications.get(application_id)
        if application is not None:
            application.published = None
            self._changed(application)

    def put_shadow(self, row: ShadowRow) -> None:
        """Take the shadow of an application: everything is worked out once more, with the shadow beside it."""
        if row.application_id not in self._left_out:
            application = self.applications[row.application_id]
            application.shadow = Shadow(row, *self._compiled(row.document))
            application.touch()
            self.unreadable_shadows.pop(application.slug, None)
            if application.shadow.problem:
                self.unreadable_shadows[application.slug] = application.shadow.problem

    def drop_shadow(self, application_id: int) -> None:
        """From now on the application has no shadow."""
        application = self.applications.get(application_id)
        if application is not None:
            application.shadow = None
            application.touch()
            self.unreadable_shadows.pop(application.slug, None)

    def settle(self) -> None:
        """Compile what changed since the last time. A document that cannot be read leaves its application without a policy."""
        if not self._to_compile:
            return
        while self._to_compile:
            application = self._to_compile.pop()
            application.policy, application.problem = None, ""
            if application.published is not None:
                application.policy, application.problem = self._compiled(application.published.document)
        self.unreadable = {known.slug: known.problem for known in self.applications.values() if known.problem}

    def _compiled(self, document: object) -> tuple[CompiledPolicy | None, str]:
        """The policy that a document holds; None, and why, where it cannot be read."""
        try:
            return self._read(document), ""
        except PolicyInvalid as error:
            return None, "; ".join(problem.message for problem in error.problems)
        except Exception as error:  # noqa: BLE001 - one document must not stop the replica; its application denies everything
            return None, f"{type(error).__name__} while reading the policy"

    def _changed(self, application: Application) -> None:
        application.touch()
        self._to_compile.add(application)

    def retire(self) -> None:
        """Kill every result that was made from these applications."""
        for application in self.applications.values():
            application.touch()
