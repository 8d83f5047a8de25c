"""The fleet of a test: made in a short folder (unix sockets), ended with it; kept, and named, when the test is red."""

import pathlib
import shutil
import tempfile
from collections.abc import Generator, Iterator

import pytest
from process.fleet import Fleet

import qslots.client
import qslots.tasks
from qslots.handlers import Registry

RED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[RED] = True
    return report


@pytest.fixture
def bare_fleet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Nothing is started yet. At the end no process may be left."""
    monkeypatch.setattr(qslots.tasks, "REGISTRY", Registry())
    monkeypatch.setattr(qslots.client, "_current", None)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qp-", dir="/tmp"))
    fleet = Fleet(folder)
    try:
        yield fleet
        if not request.node.stash.get(RED, False):
            fleet.stop_all()
            shutil.rmtree(folder)
    finally:
        if folder.exists():
            print(f"kept: {folder}\n{fleet.all_said()}")
            fleet.kill_all()


@pytest.fixture
def fleet(bare_fleet: Fleet) -> Fleet:
    """With a queue server of its own."""
    bare_fleet.start_redis()
    return bare_fleet
