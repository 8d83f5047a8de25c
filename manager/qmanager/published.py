"""What the manager has published last, and the clock by which it is dated: for its successor, and for who looks."""

import typing

import msgspec
import redis

from qslots import keys
from qslots.queueserver import QueueServer
from qslots.reports import UNDECODABLE, Plan


def clock(client: QueueServer) -> float:
    """The queue server's time, seconds."""
    seconds, micros = client.redis.time()
    return float(seconds) + float(micros) / 1e6


def newest_plan(client: redis.Redis) -> tuple[Plan | None, tuple[str, ...]]:
    """The published plan, or None; and a note if it cannot be read."""
    raw = client.get(keys.PLAN)
    if raw is None:
        return None, ()
    try:
        return msgspec.msgpack.decode(typing.cast(bytes, raw), type=Plan), ()
    except UNDECODABLE:
        return None, ("the published plan cannot be read",)


def origin(plan: Plan | None, now: float) -> dict[str, typing.Any] | None:
    """Whose plan it is, and how old, for ``--json``. Pure."""
    if plan is None:
        return None
    return {
        "epoch": plan.epoch, "seq": plan.seq, "manager": plan.manager, "published": plan.published,
        "age": max(0.0, now - plan.published),
    }  # fmt: skip
