"""What all tiers share: private redis-servers, short temp folders that outlive a red test, `needs` marks."""

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from support import servers
from support.processes import living_of, title
from support.properties import USUAL, examples
from support.servers import RedisServer
from support.waiting import wait_for

from qslots.queueserver import QueueServer

hypothesis.settings.register_profile("qslots", examples(USUAL))
hypothesis.settings.load_profile("qslots")

# A shell lets its background jobs ignore these two, and so all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for program in mark.args:
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not on PATH")


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[pathlib.Path]:
    """A temp folder with a path short enough for unix sockets; kept, and named, when the test is red."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="qs"))
    yield path
    try:
        wait_for(lambda: not living_of(path), lambda: f"left behind: {[title(pid) for pid in living_of(path)]}", 5.0)
    finally:
        for pid in living_of(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if request.node.stash.get(_failed, False):
        print(f"kept: {path}")
    else:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session", params=servers.BINARIES)
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A private redis-server, of each binary that this machine has."""
    binary = servers.find(request.param)
    if binary.missing:
        pytest.skip(binary.missing)
    server = RedisServer(binary)
    before = request.session.testsfailed
    yield server
    red = request.session.testsfailed > before
    server.stop(keep=red)
    if red:
        print(f"kept: {server.folder}")


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[QueueServer]:
    """A client of an empty queue server."""
    client = QueueServer(redis_server.url, name="test")
    client.redis.flushall()
    yield client
    client.close()
