"""What holds for every test: in CI a skipped test is a failure, and tests that measure time run alone.

A test that skips because a tool is missing proves nothing. `.ci/run` installs the tools, so there a skip is
a fault of the set-up.
"""

import os
from collections.abc import Generator

import pytest

NO_SKIP = os.environ.get("CI", "").lower() in {"1", "true"} or os.environ.get("CATALYST_TEST_NO_SKIP") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip inside a test or its fixtures into a failure (an expected failure, `xfail`, is none)."""
    report = yield
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {item.nodeid}: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a whole module's skip (`pytest.importorskip`) into a failure."""
    report = yield
    if NO_SKIP and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {collector.nodeid}: {report.longrepr}"
    return report
