"""For tests of applications: handlers run in the test's own process, against a real queue server of its own.

    with testing.queues() as q:
        send_mail.enqueue("ann")
        q.assert_enqueued(send_mail, "ann")
        q.drain()

Nothing in here may cost or change anything outside of such a block: what was connected before it is back after it.
"""

import contextlib
from collections.abc import Iterator

from ..client import instead
from ..errors import NoServerProgram
from ..servers import QueueServers
from .clock import moved
from .drain import DrainLimit, Ran
from .hand import Hand
from .private import PRIVATE
from .session import PLACE, Queues

__all__ = ["DrainLimit", "NoServerProgram", "Queues", "Ran", "queues"]

_open = 0  # blocks that have been entered; each has a database of the server


@contextlib.contextmanager
def queues() -> Iterator[Queues]:
    """Empty queues for the block: whatever this process enqueues in it goes there, whatever it is connected to.

    The server is started by the first block of the process and ends with the process. A block in a block has queues of
    its own. NoServerProgram: there is no redis-server on this machine.
    """
    global _open
    servers = QueueServers({PLACE: f"{PRIVATE.url()}?db={_open}"}, {}, name="test", scripts=moved)
    _open += 1
    try:
        servers[PLACE].redis.flushdb()
        with instead(servers), contextlib.closing(Hand()) as hand:
            yield Queues(servers, hand)
    finally:
        _open -= 1
        servers.close()
