"""What a plan costs at any size, and how much it moves: figures beside their goals, not tests.

    python tests/bench/plan.py [--servers 10000] [--queues 1000] [--cycles 20] [--only NAME] [--json]

A fleet of plain data (``fleet.py``) goes through the manager's own planner; nothing runs. What a cycle costs besides
(the masters' reports, the map and the plan on their way) is measured on a private queue server, with real records.
"""

import argparse
import gc
import os
import pathlib
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from fleet import Fleet
from memory.figures import Result, at_most, printed

from qmanager.loop import COLLECTED
from qmanager.planning.masters import summed
from qmanager.planning.planner import PlanResult
from qslots import embedded, keys
from qslots.control import Control
from qslots.queueserver import QueueServer
from qslots.reports import MapRow, Plan, Report, pack

T = TypeVar("T")
WARM = 8  # cycles of ten seconds: rates are known after a minute
TIMES = 5
ROUND = 500  # reports a command


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def timed(work: Callable[[], T], clock: Callable[[], float] = time.process_time) -> tuple[float, T]:
    """Seconds, and what came of it. What was thrown away before is not collected in this time.

    They are of the processor: a plan waits for nothing, and neighbours shall not be measured.
    """
    gc.collect()
    began = clock()
    result = work()
    return clock() - began, result


def cycle(fleet: Fleet) -> tuple[float, PlanResult]:
    """One plan and its seconds; the map is in force then."""
    masters, counts = fleet.masters(), fleet.counts()
    seconds, result = timed(lambda: fleet.planned(masters, counts))
    fleet.obey(result)
    return seconds, result


def moved(results: Sequence[PlanResult], slots: int) -> list[float]:
    """Per plan the part of all slots that served something else before, in percent."""
    return [100 * sum(bool(change.before) for change in each.changes) / slots for each in results]


def resident() -> float:
    """MB of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def begun(servers: int, queues: int) -> tuple[Fleet, float, PlanResult]:
    """A fleet at work for more than a minute; the seconds of its first plan."""
    fleet = Fleet(servers, queues)
    first, result = cycle(fleet)
    fleet.interval = 10.0
    for _ in range(WARM):
        fleet.ahead()
        cycle(fleet)
    fleet.interval = 1.0
    return fleet, first, result


def replanned(fleet: Fleet) -> list[float]:
    """Seconds of plans after small changes: ten queues have a third more or less to do, and a server comes."""
    seconds = []
    for turn in range(TIMES):
        for name in list(fleet.base)[turn * 10 : turn * 10 + 10]:
            fleet.base[name] *= 1.3 if turn % 2 else 0.7
        fleet.powers[f"late-{turn}"] = 96
        fleet.ahead()
        seconds.append(cycle(fleet)[0])
    return seconds


def of_plans(chosen: argparse.Namespace) -> list[Result]:
    """First plan, re-plan, memory, growth with size, moves, a fifth of the servers lost."""
    say(f"plans: {chosen.servers // 10:,} servers")
    small, small_first, _ = begun(chosen.servers // 10, chosen.queues)
    small_again = statistics.median(replanned(small))
    del small
    gc.collect()
    say(f"plans: {chosen.servers:,} servers")
    before = resident()
    fleet, first, result = begun(chosen.servers, chosen.queues)
    held = resident() - before
    again = replanned(fleet)
    middle = statistics.median(again)
    placed = len(result.changes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        at_most("first plan, from an empty map", first, "s", 10, slots=placed),
        at_most("plan after small changes", middle, "s", 1, best=min(again), worst=max(again)),
        at_most("the same, ten times the servers", middle / small_again, "x", 12, **{"s with a tenth": small_again}),
        at_most("first plan, ten times the servers", first / small_first, "x", 12, **{"s with a tenth": small_first}),
        Result("memory held between two plans", held, "MB", beside={"a slot, bytes": held * (1 << 20) / placed}),
        Result("peak of this process", peak, "MB"),
        *of_moves(fleet, chosen.cycles),
        *of_losses(fleet),
    ]


def of_moves(fleet: Fleet, cycles: int) -> list[Result]:
    """How much moves in a load that is steady but for noise."""
    say(f"moves: {cycles} cycles")
    found = []
    for _ in range(cycles):
        fleet.ahead()
        found.append(cycle(fleet))
    parts = moved([result for _, result in found], fleet.slots())
    seconds = [each for each, _ in found]
    mean, most = statistics.mean(parts), max(parts)
    begun = statistics.mean(len(result.changes) for _, result in found) * 100 / fleet.slots() - mean
    return [
        at_most("slots moved a cycle in steady load", mean, "%", 1, **{"worst": most, "and begun": begun}),
        at_most("plan in steady load", statistics.median(seconds), "s", 1, worst=max(seconds)),
    ]


def of_losses(fleet: Fleet) -> list[Result]:
    """A fifth of the servers is lost: what the important queues keep, and have after the next plan."""
    say("a fifth of the servers is lost")
    important = [queue.name for queue in fleet.declared.queues if queue.priority == 80 and fleet.base[queue.name] > 20]
    had = fleet.owned(important)
    for name in fleet.draw.sample(sorted(fleet.powers), len(fleet.powers) // 5):
        del fleet.powers[name]
    kept = fleet.owned(important)
    fleet.ahead()
    seconds, result = cycle(fleet)
    granted = {each.name: each.granted for each in result.queues if each.name in had}
    lacking = sum(max(0.0, granted[name] - slots) for name, slots in fleet.owned(important).items())
    stayed, worst = sum(kept.values()) / sum(had.values()), min(kept[name] / had[name] for name in important)
    return [
        Result("plan after a fifth of the servers is lost", seconds, "s"),
        at_most("important queues: lost at once", 100 * (1 - stayed), "%", 20.5, **{"the worst": 100 * (1 - worst)}),
        at_most("important queues: lacking after that plan", lacking, "slots", 0, granted=sum(granted.values())),
    ]


def of_cycles(chosen: argparse.Namespace) -> list[Result]:
    """What the manager does around a plan: reports in, rows and document out."""
    fleet, _, result = begun(chosen.servers, chosen.queues)
    with tempfile.TemporaryDirectory(prefix="qs") as name, embedded.prepare(pathlib.Path(name) / "data") as server:
        server.spawn()
        server.wait_ready(say)
        queue_server = QueueServer(server.url, name="bench", single=True)
        try:
            return [*_reports(fleet, queue_server), *_published(fleet, queue_server, result)]
        finally:
            queue_server.close()


def _reports(fleet: Fleet, server: QueueServer) -> list[Result]:
    say(f"reports: {len(fleet.powers):,} of {fleet.slots() // len(fleet.powers)} slots")
    names, size = sorted(fleet.powers), 0
    now = time.time() * 1e6
    for start in range(0, len(names), ROUND):
        told = {name: pack(fleet.report(name)) for name in names[start : start + ROUND]}
        size += sum(map(len, told.values()))
        server.redis.hset(keys.REPORTS, mapping=told)
        server.redis.zadd(keys.SEEN, dict.fromkeys(told, now))
    decode = msgspec.msgpack.Decoder(Report).decode
    raw = [server.redis.hget(keys.REPORTS, name) for name in names[:ROUND]]
    decoding, _ = timed(lambda: [decode(each or b"") for each in raw])
    reading, (reports, _, _) = timed(Control(server).reports, time.perf_counter)
    summing, _ = timed(lambda: summed(reports.values()))
    return [
        at_most("all reports: read from the queue server", reading, "s", 1, **{"kB each": size / len(names) / 1000}),
        Result("of it, decoding", decoding * len(names) / len(raw), "s"),
        Result("all reports: summed up", summing, "s"),
    ]


def _published(fleet: Fleet, server: QueueServer, result: PlanResult) -> list[Result]:
    """A hundredth of the rows is new."""
    control = Control(server)
    epoch = control.take_epoch("bench", 0, respect=0.0, take_over=True)
    rows = {name: MapRow(epoch, 1, "bench", row) for name, row in fleet.rows.items()}
    control.publish(Plan(epoch, 1, "bench", 0.0, result.queues), rows, [])
    after = {name: (*row[1:], row[0]) if n % 100 == 0 else row for n, (name, row) in enumerate(fleet.rows.items())}
    comparing, changed = timed(
        lambda: {name: MapRow(epoch, 2, "bench", row) for name, row in after.items() if rows[name].slots != row}
    )
    document = Plan(epoch, 2, "bench", 0.0, result.queues)
    sending, _ = timed(lambda: control.publish(document, changed, []), time.perf_counter)
    kilobytes = len(pack(document)) / 1000
    return [
        at_most("rows compared", comparing, "s", 0.1, changed=len(changed)),
        at_most("plan and changed rows published", sending, "s", 0.2, **{"kB of the plan": kilobytes}),
    ]


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], list[Result]]] = {"plans": of_plans, "cycle": of_cycles}


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-plan", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", type=int, default=10_000, help="of 90 slots in the mean (10,000)")
    parser.add_argument("--queues", type=int, default=1000, help="(1,000)")
    parser.add_argument("--cycles", type=int, default=20, help="in which moves are counted (20)")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="only this measurement; repeatable")
    parser.add_argument("--json", action="store_true", help="one document instead of the table")
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    chosen = parsed()
    on = {"cpus": os.cpu_count(), "python": platform.python_version(), "load before": round(os.getloadavg()[0], 2)}
    gc.set_threshold(*COLLECTED)
    began = time.monotonic()
    results = [result for each in chosen.only or MEASUREMENTS for result in MEASUREMENTS[each](chosen)]
    on["seconds"] = round(time.monotonic() - began)
    printed(results, on, as_json=chosen.json)


if __name__ == "__main__":
    main()
