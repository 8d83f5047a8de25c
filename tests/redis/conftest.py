"""An application for the tests of one queue server: connected as applications are, its handlers gone afterwards."""

from collections.abc import Iterator

import pytest

from qslots import client
from qslots.handlers import REGISTRY
from qslots.queueserver import QueueServer


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
