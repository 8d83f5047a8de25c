"""One courier for each queue server; the first one's also registers the master, sends its reports and brings the map.

A queue server that is away holds up its own letters and nothing else.
"""

import selectors

from qslots.servers import QueueServers, parted, source
from qslots.settings import Settings

from .letters import Connect, Failed, Join, Letter, Pay
from .post import OnReply, Post


class Couriers:
    """The posts by the names of the queue servers."""

    def __init__(self, settings: Settings, connect: Connect, selector: selectors.BaseSelector) -> None:
        self._servers = QueueServers.listed(settings, name="qmaster")  # says what lives where; never opened here
        self.first = Post(self._servers.names[0], connect, selector)
        self._posts = {self.first.name: self.first}
        for name in self._servers.names[1:]:
            self._posts[name] = Post(name, Join(self._servers.urls[name], connect.server), selector)

    def use(self, settings: Settings) -> None:
        """Other places of queues, on the same queue servers."""
        self._servers = QueueServers.listed(settings, name="qmaster")

    @property
    def others(self) -> list[str]:
        """The names of all queue servers but the first."""
        return list(self._posts)[1:]

    def start(self, now: float) -> None:
        """Spawns them all."""
        for post in self._posts.values():
            post.start(now)

    def sources(self, queues: tuple[str, ...]) -> list[str]:
        """Where these queues live: a source for each of their servers."""
        return [source(*place) for place in self._servers.sources(queues)]

    def send(self, server: str, letter: Letter, on_reply: OnReply, now: float) -> None:
        """Sends a letter to the courier of a queue server. One that is not listed is answered for at once."""
        if server in self._posts:
            self._posts[server].send(letter, on_reply, now)
        else:
            on_reply(Failed("refused", f"there is no queue server {server!r} in the settings"))

    def tell(self, letter: Letter, now: float) -> None:
        """Sends a letter to every courier."""
        for post in self._posts.values():
            post.send(letter, lambda _: None, now)

    def check(self, now: float) -> None:
        """Sends again what is due; replaces couriers that are late."""
        for post in self._posts.values():
            post.check(now)

    def next_check(self) -> float:
        """When ``check`` has something to do at the earliest."""
        return min(post.next_check() for post in self._posts.values())

    def held_up(self, of: str) -> bool:
        """Whether the queue server of this source is away while another one answers."""
        post = self._posts.get(parted(of)[1])
        return post is not None and bool(post.down) and not all(each.down for each in self._posts.values())

    def serves_nobody(self, of: str) -> bool:
        """Whether the queue server of this source is not there at all: no lock ends meanwhile."""
        post = self._posts.get(parted(of)[1])
        return post is not None and post.serves_nobody

    def answer(self, queues: tuple[str, ...]) -> bool:
        """Whether all servers of these queues answer, as far as is known."""
        down = {name for name, post in self._posts.items() if post.down}
        return not down or down.isdisjoint(parted(source)[1] for source in self.sources(queues))

    def postpone(self, seconds: float) -> None:
        """The master was not there for so long."""
        for post in self._posts.values():
            post.postpone(seconds)

    @property
    def undone(self) -> int:
        """Letters that must not be lost and are not answered yet."""
        return sum(post.undone() for post in self._posts.values())

    @property
    def owed(self) -> int:
        """Those of them that stand on no scoreboard."""
        return sum(post.undone(Pay) for post in self._posts.values())

    @property
    def pids(self) -> set[int]:
        """The couriers that run."""
        return {post.pid for post in self._posts.values() if post.pid is not None}

    def exited(self, pid: int, now: float) -> None:
        """The courier of this pid was reaped: another one is to be started."""
        next(post for post in self._posts.values() if post.pid == pid).exited(now)

    def status(self) -> dict[str, dict[str, str]]:
        """Each queue server: where it is, and why it is not to be had ("" if it answers)."""
        return {name: {"url": post.url, "down": post.down or post.refused} for name, post in self._posts.items()}

    def close(self) -> None:
        """No more letters: the couriers end when they see the end of their wires."""
        for post in self._posts.values():
            post.close()
