"""``put`` and ``exchange`` in packs of several sizes: µs a task, against the bare commands that they need."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import bare
import redis
from adapter import Client, StoredTask, made
from figures import Plan, Result, Spent, middle, spent

SIZES = (1, 10, 100, 500)
CALLS = {1: 1000, 10: 500, 100: 100, 500: 40}


@dataclass(frozen=True, slots=True)
class Block:
    """µs a task of one block of calls: on the caller's clock, in the server's commands, of its processor."""

    wall: float
    commands: float
    processor: float


def measure(plan: Plan) -> list[Result]:
    """Alternates blocks of scripts and of bare commands."""
    blocks: dict[tuple[str, int], list[Block]] = {}
    for number in range(1, plan.rounds + 1):
        plan.say(f"put and exchange against bare commands: round {number} of {plan.rounds}")
        for size in SIZES:
            packs = [made(size) for _ in range(CALLS[size] // (4 if plan.quick else 1))]
            for what, block in (*_scripts(plan.url, packs), *_bare(plan.url, packs)):
                blocks.setdefault((what, size), []).append(block)
    return [_result(what, size, blocks) for what in ("put", "exchange") for size in SIZES]


def _scripts(url: str, packs: Sequence[Sequence[StoredTask]]) -> list[tuple[str, Block]]:
    client = Client(url)
    consumer = client.consumer("packs")
    size, count = len(packs[0]), sum(map(len, packs))
    client.put("packs", made(size))  # loads the scripts
    consumer.exchange(size)
    put = _timed(client.redis, count, [lambda pack=pack: client.put("packs", pack) for pack in packs])  # type: ignore[misc]
    taken = _timed(client.redis, count, [lambda: _full(consumer.exchange(size), size)] * len(packs))
    consumer.exchange(0)
    return [("put", _block(put, scripts=True)), ("exchange", _block(taken, scripts=True))]


def _full(got: int, size: int) -> None:
    if got != size:
        raise AssertionError(f"a pack of {got} tasks where {size} were due")


def _bare(url: str, packs: Sequence[Sequence[StoredTask]]) -> list[tuple[str, Block]]:
    client = redis.Redis.from_url(url, protocol=2, single_connection_client=True)
    count = sum(map(len, packs))
    puts = [bare.Put(client, pack).send for pack in packs]
    takes = [each.send for each in bare.exchanges(client, packs)]
    put, taken = _timed(client, count, puts), _timed(client, count, takes)
    bare.forget(client)
    client.close()
    return [("bare put", _block(put, scripts=False)), ("bare exchange", _block(taken, scripts=False))]


def _timed(
    client: redis.Redis, tasks: int, calls: Sequence[Callable[[], None]]
) -> tuple[int, float, Spent]:  # fmt: skip
    before = spent(client)
    began = time.perf_counter()
    for call in calls:
        call()
    return tasks, 1e6 * (time.perf_counter() - began), spent(client).since(before)


def _block(timed: tuple[int, float, Spent], *, scripts: bool) -> Block:
    tasks, wall, server = timed
    commands = server.scripts if scripts else server.commands
    return Block(wall / tasks, commands / tasks, server.processor / tasks)


def _result(what: str, size: int, blocks: dict[tuple[str, int], list[Block]]) -> Result:
    ours, other = blocks[what, size], blocks[f"bare {what}", size]
    wall, bare_wall = middle([each.wall for each in ours]), middle([each.wall for each in other])
    commands, bare_commands = middle([each.commands for each in ours]), middle([each.commands for each in other])
    beside = {
        "bare": bare_wall, "x bare": wall / bare_wall, "in the script": commands, "bare commands": bare_commands,
        "server CPU": middle([each.processor for each in ours]),
        "bare CPU": middle([each.processor for each in other]),
    }  # fmt: skip
    return Result(f"{what}, packs of {size}", wall, "µs/task", beside=beside)
