"""The clock of a testing server: moved ahead, or standing still.

Only the texts of the scripts differ: what asks a queue server for its time is put together with ``clock.lua`` here, and
by nobody else. So a real queue server never sees any of this.
"""

import functools
import re

import redis

from ..connection import translated
from ..inspector import Inspector
from ..keys import PREFIX
from ..outcomes import micros
from ..queueserver import QueueServer
from ..scripts import Script, source

_KEY = PREFIX + "testing:clock"
_TIME = re.compile(r"(?:redis\.)?call\('TIME'\)")


@functools.cache
def moved(place: str, name: str, flagged: bool) -> Script:
    """A script as ``scripts.script`` makes it, but on the moved clock."""
    text, flags = source(place, name)
    if not _TIME.search(text):
        return Script(text, flags, flagged)
    ticks = "false" if "no-writes" in flags else "true"
    clock, _ = source("testing", "clock")
    return Script(f"local TICKS = {ticks}\n{clock}{_TIME.sub('moved_time()', text)}", flags, flagged)


class Clock:
    """That of one testing server."""

    def __init__(self, server: QueueServer) -> None:
        self._server = server

    def now(self) -> float:
        """Unix time in seconds."""
        now, _ = Inspector(self._server, "testing").get([])
        return now

    def advance(self, seconds: float) -> None:
        """Moves it ahead; what a key has left to live becomes as much less."""
        client = self._server.redis
        with translated(self._server.url):
            hand = "stands" if client.hexists(_KEY, "stands") else "shift"
            client.hincrby(_KEY, hand, int(micros(seconds)))
            _age(client, seconds)

    def stand(self, at: float) -> None:
        """Stops it at this time."""
        with translated(self._server.url):
            self._server.redis.hset(_KEY, "stands", str(int(micros(at))))


def _age(client: redis.Redis, seconds: float) -> None:
    """Kept results and the like expire by Redis' own clock, which cannot be moved."""
    for key in client.scan_iter(f"{PREFIX}{{*"):
        left = client.pttl(key)
        assert isinstance(left, int)
        if left >= 0:
            client.pexpire(key, max(0, left - round(seconds * 1e3)))
