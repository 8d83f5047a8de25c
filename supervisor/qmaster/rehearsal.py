"""What every slot does first, done once in the mold before its heap is frozen: so its traces are shared, not copied.

Scripts are read, a connection is opened and the code on the way to the queue server is run warm; without this each slot
makes 2 MB private for it (measured). It only asks the queue servers what is due: it must change nothing there, keep
no connection (slots would share it), and never hold a mold back: a server that is away is left for later.
"""

from collections.abc import Mapping, Sequence

from qslots import connection
from qslots.errors import QueueServerError
from qslots.queueserver import QueueServer
from qslots.servers import QueueServers
from qslots.settings import Settings

SCRIPTS = ("exchange", "due", "unwait", "settle", "release")  # those that slots use
PATIENCE = 5.0  # seconds that a slot waits for one answer of its only queue server
PATIENCE_WITH_OTHERS = 2.0  # where it has others to serve meanwhile
TIMES = 20  # until the interpreter has specialised what is run


def rehearse(servers: QueueServers, handlers: Mapping[str, Sequence[str]]) -> None:
    """``servers``: as slots open them, for this alone; ``handlers``: those of each queue."""
    try:
        for server in servers.names:
            here = {queue: names for queue, names in handlers.items() if server in servers.places(queue)}
            _rehearse(servers[server], here)
    finally:
        servers.close()


def prepare(settings: Settings) -> None:
    """The clients that slots will open, not connected: made in each slot they would cost it 1 MB (measured)."""
    for url in settings.queue_servers.values():
        connection.prepare(url, patience(settings))


def patience(settings: Settings) -> float:
    """Seconds that a slot waits for one answer of a queue server."""
    return PATIENCE if len(settings.queue_servers) == 1 else PATIENCE_WITH_OTHERS


def _rehearse(server: QueueServer, handlers: Mapping[str, Sequence[str]]) -> None:
    try:
        for script in SCRIPTS:
            server.prepare("queue", script)
        for _ in range(TIMES if handlers else 0):
            server.due(dict(list(handlers.items())[:1]))
    except QueueServerError:  # what is wrong with it is told where it matters
        return
