"""Tasks a second through the client: puts, a drain by two bare consumers, and one enqueue against a bare EVALSHA."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import adapter
import redis
from adapter import Client
from depth import put_all
from figures import Plan, Result, middle, together

BATCH = 500
TRIVIAL = "return redis.status_reply('OK')"
BARE_PUT = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])"


def puts(plan: Plan) -> list[Result]:
    """``enqueue_many`` of 500 calls each, by one process and by two."""
    tasks = 20_000 if plan.quick else 100_000
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(1, plan.rounds + 1):
        plan.say(f"enqueue_many: round {number} of {plan.rounds}")
        for processes, found in rates.items():
            found.append(_enqueued(plan.url, tasks, processes))
            _emptied(plan.url, "public")
    names = {1: "one process", 2: "two processes"}
    return [
        Result(f"enqueue_many of {BATCH}, {names[processes]}", middle(found), "tasks/s", ">= 150,000")
        for processes, found in rates.items()
    ]


def _enqueued(url: str, tasks: int, processes: int) -> float:
    def work(_: int) -> tuple[float, float]:
        adapter.public_client(url)
        adapter.enqueue()  # connects
        began = time.perf_counter()
        for _ in range(tasks // processes // BATCH):
            adapter.enqueue_many(BATCH)
        return began, time.perf_counter()

    return _rate(tasks // processes // BATCH * BATCH * processes, together(work, processes))


def drain(plan: Plan) -> Result:
    """Two processes exchange packs of 500 until nothing is left."""
    tasks = 50_000 if plan.quick else 300_000
    rates = []
    for number in range(1, plan.rounds + 1):
        plan.say(f"drain of {tasks:,} tasks: round {number} of {plan.rounds}")
        put_all(plan.url, "drain", tasks)
        rates.append(_drained(plan.url, tasks))
    what = f"exchange of packs of {BATCH}, two bare processes"
    return Result(what, middle(rates), "tasks/s", ">= 300,000")


def _drained(url: str, tasks: int) -> float:
    def work(_: int) -> tuple[float, float, int]:
        client = Client(url)
        consumer = client.consumer("drain")
        began, done = time.perf_counter(), 0
        while got := consumer.exchange(BATCH):
            done += got
        return began, time.perf_counter(), done

    spans = together(work, 2)
    done = sum(each[2] for each in spans)
    if done != tasks:
        raise AssertionError(f"{done} tasks were drained of {tasks}")
    return _rate(tasks, [each[:2] for each in spans])


def _rate(tasks: int, spans: list[tuple[float, float]]) -> float:
    """perf_counter is one clock for all processes."""
    return tasks / (max(end for _, end in spans) - min(began for began, _ in spans))


def _emptied(url: str, queue: str) -> None:
    consumer = Client(url).consumer(queue)
    while consumer.exchange(BATCH):
        pass


def one_enqueue(plan: Plan) -> list[Result]:
    """``enqueue`` with one argument against EVALSHA by redis-py: of a script that does nothing, of one that only stores
    (two commands), and of put itself.

    Where the two processes run decides what is compared: apart, most of a round trip is the waking of the other core
    (between machines: the network); on one core it is the sum of their work. Left to the scheduler, runs would differ.
    """
    client = redis.Redis.from_url(plan.url)
    mine = os.sched_getaffinity(0)
    places = {"on one core": (min(mine), "")} | ({"apart": (max(mine), "<= 1.5")} if len(mine) > 1 else {})
    server = int(client.info("server")["process_id"])
    os.sched_setaffinity(server, {min(mine)})
    found = []
    for where, (core, goal) in places.items():
        os.sched_setaffinity(0, {core})
        found.append(_one_enqueue(plan, client, where, goal))
    for process in (0, server):
        os.sched_setaffinity(process, mine)
    return found


def _one_enqueue(plan: Plan, client: redis.Redis, where: str, goal: str) -> Result:
    adapter.public_client(plan.url)
    nothing, store = client.script_load(TRIVIAL), client.script_load(BARE_PUT)
    blocks = 4 if plan.quick else 4 * plan.rounds
    plan.say(f"one enqueue against a bare EVALSHA, {where}: {blocks} blocks of each")
    request = adapter.ProducerRequests(Client(plan.url).version, "public", 1)
    ids = (f"{number:023x}" for number in itertools.count())

    def stored() -> None:
        client.evalsha(store, 2, "bare:tasks", "bare:schedule", next(ids), bytes(66), 1)

    took: dict[str, list[float]] = {"bare": [], "bare store": [], "put by redis-py": [], "enqueue": []}
    for _ in range(blocks):
        took["bare"] += _micros(lambda: client.evalsha(nothing, 3, "bare:a", "bare:b", "bare:c", "one", "two", "three"))
        took["enqueue"] += _micros(adapter.enqueue)
        took["bare store"] += _micros(stored)
        took["put by redis-py"] += _micros(map(_evalsha, [client] * 500, [request.next() for _ in range(500)]))
    client.delete("bare:tasks", "bare:schedule")
    _emptied(plan.url, "public")
    medians = {name: middle(found) for name, found in took.items()}
    wall = medians.pop("enqueue")
    beside = {"µs": wall} | {f"{name} µs": found for name, found in medians.items()}
    beside |= {f"x {name}": wall / found for name, found in medians.items() if name != "bare"}
    return Result(f"one enqueue, {where}", wall / medians["bare"], "x bare EVALSHA", goal, beside)


def _evalsha(client: redis.Redis, words: tuple[Any, ...]) -> Callable[[], object]:
    return lambda: client.evalsha(*words[1:])


def _micros(calls: Callable[[], object] | Iterator[Callable[[], object]], times: int = 500) -> list[float]:
    found = []
    for _ in range(times):
        call = next(calls) if isinstance(calls, Iterator) else calls
        began = time.perf_counter_ns()
        call()
        found.append((time.perf_counter_ns() - began) / 1000)
    return found
