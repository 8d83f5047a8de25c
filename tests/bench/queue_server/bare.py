"""The bare commands that a put and an exchange cannot do without, each set one pipelined round trip of redis-py.

What the scripts cost beyond them is the price of what scripts promise: repeatability, expiry, waking, counts.
"""

import time
from collections.abc import Sequence

import msgspec
import redis
from adapter import StoredTask, ids_of, records_of

TASKS, SCHEDULE, PACKS, LOCKS = (f"bare:{part}" for part in ("tasks", "schedule", "packs", "locks"))


class Put:
    """HSET of the records, ZADD of the times."""

    def __init__(self, client: redis.Redis, tasks: Sequence[StoredTask]) -> None:
        now = time.time_ns() // 1000
        self._client = client
        self._records = [part for pair in zip(ids_of(tasks), records_of(tasks), strict=True) for part in pair]
        self._scores = dict.fromkeys(ids_of(tasks), now)

    def send(self) -> None:
        """One round trip."""
        with self._client.pipeline(transaction=False) as line:
            line.hset(TASKS, items=self._records)
            line.zadd(SCHEDULE, self._scores)
            line.execute()


class Exchange:
    """Settles the pack before and takes the next, whose ids are known beforehand: no script could know less."""

    def __init__(self, client: redis.Redis, name: str, previous: tuple[str, list[str]] | None, ids: list[str]) -> None:
        self._client = client
        self._name = name
        self._previous = previous
        self._ids = ids
        scores = [time.time() * 1e6] * len(ids)
        self._pack = msgspec.msgpack.encode(["thumbnail", *zip(ids, scores, strict=True)])

    def send(self) -> None:
        """One round trip."""
        now = time.time() * 1e6
        with self._client.pipeline(transaction=False) as line:
            if self._previous is not None:
                name, ids = self._previous
                line.hdel(TASKS, *ids)
                line.hdel(PACKS, name)
                line.zrem(LOCKS, name)
            line.zrangebyscore(SCHEDULE, "-inf", now, start=0, num=len(self._ids), withscores=True)
            line.hmget(TASKS, self._ids)
            line.zremrangebyrank(SCHEDULE, 0, len(self._ids) - 1)
            line.hset(PACKS, self._name, self._pack)
            line.zadd(LOCKS, {self._name: now + 60e6})
            line.execute()


def exchanges(client: redis.Redis, packs: Sequence[Sequence[StoredTask]]) -> list[Exchange]:
    """One exchange for each pack, the first of which settles nothing."""
    named = [(f"bench/bare:{seq}", ids_of(pack)) for seq, pack in enumerate(packs)]
    return [
        Exchange(client, name, previous, ids) for previous, (name, ids) in zip([None, *named[:-1]], named, strict=True)
    ]


def forget(client: redis.Redis) -> None:
    """Drops all of it."""
    client.unlink(TASKS, SCHEDULE, PACKS, LOCKS)
