"""All queue servers of one process, and which of them each queue lives on. It opens none before it is used.

A queue lives on one server, or is spread over several; its place on one of them is a *source*, written
``orders@main``. Control keys (slot map, reports) live on the first one listed alone.
"""

import secrets
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from .connection import ListedUrl
from .durability import FAST, Durability
from .errors import QueueServerDown
from .queueserver import QueueServer
from .scripts import Scripts, script
from .settings import ManagerSettings, Settings
from .units import duration

LOST_AFTER = duration(ManagerSettings().lost_after)


def source(queue: str, server: str) -> str:
    """The text that names a queue's place on a server (no name has an ``@``)."""
    return f"{queue}@{server}"


def parted(text: str) -> tuple[str, str]:
    """Queue and server of a source."""
    queue, _, server = text.partition("@")
    return queue, server


class QueueServers:
    """The servers by name, in the order listed; the first one is ``control``."""

    def __init__(
        self, urls: Mapping[str, str], places: Mapping[str, tuple[str, ...]], *, name: str, timeout: float = 5.0,
        single: bool = False, scripts: Scripts = script, lost_after: float = LOST_AFTER,
    ) -> None:  # fmt: skip
        self.urls = dict(urls)
        self.lost_after = lost_after  # s of silence after which a server of the fleet is lost, as the settings have it
        self._places = dict(places)
        self._first = (next(iter(self.urls)),)
        self._name = name
        self._timeout = timeout
        self._single = single
        self._scripts = scripts
        self._opened: dict[str, QueueServer] = {}
        self._turns: dict[str, int] = {}  # queue -> whose turn it is

    @classmethod
    def listed(cls, settings: Settings, *, name: str, timeout: float = 5.0, single: bool = False) -> "QueueServers":
        """Those of a settings file; SettingsError if it lists none."""
        _ = settings.url
        return cls(
            settings.queue_servers, settings.places, name=name, timeout=timeout, single=single,
            lost_after=duration(settings.manager.lost_after),
        )  # fmt: skip

    def __getitem__(self, server: str) -> QueueServer:
        if server not in self._opened:
            url = self.urls[server] if len(self.urls) == 1 else ListedUrl(self.urls[server], server)
            self._opened[server] = QueueServer(
                url, name=self._name, timeout=self._timeout, single=self._single, scripts=self._scripts
            )
        return self._opened[server]

    @property
    def control(self) -> QueueServer:
        """Where the slot map and the reports live."""
        return self[self._first[0]]

    @property
    def names(self) -> list[str]:
        """All names, as listed."""
        return list(self.urls)

    def places(self, queue: str) -> tuple[str, ...]:
        """The names of the servers that a queue lives on."""
        return self._places.get(queue, self._first)

    def sources(self, queues: Iterable[str]) -> list[tuple[str, str]]:
        """(queue, server) for every place of these queues."""
        return [(queue, server) for queue in queues for server in self.places(queue)]

    def by_server(self, queues: Iterable[str]) -> dict[str, list[str]]:
        """server -> those of these queues that live there."""
        found: dict[str, list[str]] = {}
        for queue, server in self.sources(queues):
            found.setdefault(server, []).append(queue)
        return found

    def home(self, queue: str, task: str) -> str:
        """Where a task with an id of its own lives: the same for everyone, so that duplicates meet."""
        places = self.places(queue)
        return places[zlib.crc32(task.encode()) % len(places)]

    def check(self, durabilities: Mapping[str, Durability] | None = None) -> None:
        """QueueServerError for a server that is too old, may lose tasks by its settings, or cannot keep a promise.

        ``durabilities``: what queues ask of their servers. Only the first server must answer.
        """
        for name in self.urls:
            try:
                self[name].check()
                for queue, durability in (durabilities or {}).items():
                    if name in self.places(queue):
                        self[name].promise(queue, durability)
            except QueueServerDown:
                if name in self._first:
                    raise

    def put(
        self, queue: str, handler: str, head: bytes, ids: Sequence[str], bodies: Sequence[bytes], *,
        when: str | Sequence[str] = "", on_duplicate: str = "refuse", own_ids: bool = False,
        durability: Durability = FAST,
    ) -> int:  # fmt: skip
        """Stores tasks where they belong: see ``QueueServer.put``. Of a spread queue, ids made here go to the next
        living server, if certainly nothing was sent to the one before; ids of one's own only to their home.
        """
        places = self.places(queue)
        if len(places) == 1:
            return self[places[0]].put(
                queue, handler, head, ids, bodies, when=when, on_duplicate=on_duplicate, own_ids=own_ids,
                durability=durability,
            )  # fmt: skip
        if not own_ids:
            return self._put_anywhere(
                queue, lambda server: server.put(queue, handler, head, ids, bodies, when=when, durability=durability)
            )
        stored = 0
        for server in places:
            at = [place for place, task in enumerate(ids) if self.home(queue, task) == server]
            if at:
                whens = when if isinstance(when, str) else [when[place] for place in at]
                some_ids, some_bodies = [ids[place] for place in at], [bodies[place] for place in at]
                stored += self[server].put(
                    queue, handler, head, some_ids, some_bodies, when=whens, on_duplicate=on_duplicate, own_ids=True,
                    durability=durability,
                )  # fmt: skip
        return stored

    def _put_anywhere(self, queue: str, put: Callable[[QueueServer], int]) -> int:
        """On the servers of a queue in turn; on the next one if certainly nothing was done on the one before."""
        places = self.places(queue)
        turn = self._turns[queue] = self._turns.get(queue, secrets.randbelow(len(places))) + 1
        order = [places[(turn + step) % len(places)] for step in range(len(places))]
        for server in order[:-1]:
            try:
                return put(self[server])
            except QueueServerDown as error:
                if error.sent:
                    raise
        return put(self[order[-1]])

    def singly(self, name: str) -> "QueueServers":
        """The same servers, each by one connection that is kept open, for one thread."""
        return QueueServers(
            self.urls, self._places, name=name, timeout=self._timeout, single=True, scripts=self._scripts,
            lost_after=self.lost_after,
        )  # fmt: skip

    def close(self) -> None:
        """Closes all connections; the next operation opens new ones, from scratch."""
        for server in self._opened.values():
            server.close()
