"""A primary, its replicas, and the Sentinels that watch it: real ones, on ports of their own on loopback."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from qslots.connection import Link, open_redis
from qslots.errors import QueueServerError

from . import servers
from .servers import Binary, RedisServer
from .waiting import wait_for

NAME = "main"
SETTINGS = f"""
sentinel monitor {NAME} 127.0.0.1 {{port}} {{quorum}}
sentinel down-after-milliseconds {NAME} 500
sentinel failover-timeout {NAME} 3000
"""


def link_to(server: RedisServer) -> Link:
    """Round trips to one server, whatever its role."""
    return Link(open_redis(server.url, name="t"), server.url)


def url_of(sentinels: list[RedisServer], name: str = NAME) -> str:
    """The primary that these Sentinels know."""
    return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in sentinels)}/{name}/0"


def facts(sentinel: RedisServer) -> dict[bytes, bytes]:
    """What a Sentinel knows of the primary."""
    flat = link_to(sentinel).call("SENTINEL", "MASTER", NAME)
    return dict(zip(flat[::2], flat[1::2], strict=True))


class Watched:
    """One primary with two replicas, watched by three Sentinels; ``url`` names whoever is the primary."""

    def __init__(self, stack: contextlib.ExitStack, binary: Binary) -> None:
        def start(**how: Any) -> RedisServer:
            server = RedisServer(binary, port=servers.free_port(), **how)
            stack.callback(server.stop)
            return server

        wanted = {"min-replicas-to-write": "1", "min-replicas-max-lag": "5", "repl-diskless-sync-delay": "0"}
        self.primary = start(options=wanted)
        follow = {**wanted, "replicaof": f"127.0.0.1 {self.primary.port}"}
        self.replicas = [start(options=follow) for _ in range(2)]
        settings = SETTINGS.format(port=self.primary.port, quorum=2)
        self.sentinels = [start(file=settings, sentinel=True) for _ in range(3)]
        self.url = url_of(self.sentinels)
        wait_for(
            lambda: all(_complete(facts(each)) for each in self.sentinels),
            lambda: f"the Sentinels to know each other: {[facts(each) for each in self.sentinels]}", 15,
        )  # fmt: skip


def _complete(known: dict[bytes, bytes]) -> bool:
    return (known[b"num-slaves"], known[b"num-other-sentinels"], known[b"flags"]) == (b"2", b"2", b"master")


@contextlib.contextmanager
def watched(binary: Binary) -> Iterator[Watched]:
    """Started, and complete; all of it ends with the block."""
    with contextlib.ExitStack() as stack:
        yield Watched(stack, binary)


class Numbers:
    """Stores 1, 2, 3, … while the block runs; remembers those of which it was told that a replica has them.

    ``store`` raises where that is not proven, or nobody answers: the next number may do better.
    """

    def __init__(self, store: Callable[[int], object]) -> None:
        self.proven: list[int] = []
        self._store = store
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Numbers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count(1):
            if self._enough.wait(0.002):
                return
            with contextlib.suppress(QueueServerError):
                self._store(number)
                self.proven.append(number)
