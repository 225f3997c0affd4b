"""The injector's numbers. No label holds a name of a pod, a namespace or a user."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class InjectorMetrics:
    """What the injector counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reviews = Counter(
            "injector_reviews",
            "Pods asked about, by what came of it, why where it was refused, and whether it was only a trial (dry run).",
            ["outcome", "code", "dry_run"],
            registry=self.registry,
        )
        self.malformed = Counter(
            "injector_malformed_requests",
            "Requests that were no AdmissionReview, by what is wrong with them.",
            ["code"],
            registry=self.registry,
        )
        self.reloads = Counter(
            "injector_certificate_reloads",
            "Certificates that were read again: done, or failed, where the one before stays in use.",
            ["result"],
            registry=self.registry,
        )
        self.expiry = Gauge(
            "injector_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends, in seconds since 1970.",
            registry=self.registry,
        )
