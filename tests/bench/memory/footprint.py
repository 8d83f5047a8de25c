"""The memory of 24 workers after the same work: qmaster's slots beside Celery's children and gunicorn's.

Each system is started alone, does its tasks, rests, and is read. The sum is of all its processes (master, mold,
courier; Celery's and gunicorn's parent), the queue server left out. The second kind of work goes the other way round
through the systems, so that none is always first.
"""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import processes
import systems
from figures import MB, Result, at_most, spread
from processes import Memory
from systems import Bench, BenchError, System

REST = 5.0  # seconds between the last task and the reading
QUARTER = 0.25
RECYCLED_AFTER = 100  # tasks, where Celery recycles its children
Start = Callable[[Bench], contextlib.AbstractContextManager[System]]
SYSTEMS: dict[str, Start] = {
    "qmaster": systems.qmaster,
    "qmaster, warmed up": lambda bench: systems.qmaster(bench, "served_warm"),
    "celery": systems.celery,
    f"celery, max-tasks {RECYCLED_AFTER}": lambda bench: systems.celery(
        bench, "--max-tasks-per-child", str(RECYCLED_AFTER)
    ),
    "gunicorn --preload": systems.gunicorn,
}

WORK = {"small": tuple(SYSTEMS), "light": ("gunicorn --preload", "celery", "qmaster")}  # who does it, in which order
NOTE = """\
small: each task reads an order of 1,500 lines into objects; light: it takes the same bytes as bytes; all else is equal.
A worker of gunicorn copies most of its heap at its first full garbage collection, which comes when enough new objects
have outlived the younger ones: soon at small work, late or never at light work. Slots have a frozen heap."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """One system after its work."""

    total: int  # PSS of all processes, bytes
    others: int  # that of those which are no workers
    workers: tuple[Memory, ...]
    fewest: int  # tasks that a worker did

    @property
    def marginal(self) -> float:
        """Bytes that one more worker takes: private + page tables."""
        return statistics.median(each.private + each.page_tables for each in self.workers)


def read(system: System) -> Footprint:
    """All processes now; BenchError unless each worker that lives has worked."""
    workers = system.workers()
    sizes = {pid: found for pid in system.pids() if (found := processes.memory(pid)) is not None}
    done = system.done()
    total = sum(each.pss for each in sizes.values())
    at_work = tuple(sizes[pid] for pid in workers if pid in sizes)
    return Footprint(
        total, total - sum(each.pss for each in at_work), at_work, min(done.get(pid, 0) for pid in workers)
    )


def taken(bench: Bench, name: str) -> Footprint:
    """One system from start to end."""
    bench.say(f"{name}: {bench.workers} workers, {bench.tasks} tasks of {bench.work} work")
    with SYSTEMS[name](bench) as system:
        system.work(bench.tasks)
        time.sleep(REST)
        found = read(system)
    if len(found.workers) != bench.workers:
        raise BenchError(f"{name} has {len(found.workers)} workers after its work instead of {bench.workers}")
    if found.fewest == 0 and "max-tasks" not in name:  # a child that was just replaced has had no time
        raise BenchError(f"{name}: a worker did no task; give it more --tasks")
    bench.say(f"{name}: {found.total / MB:,.0f} MB in all, {found.marginal / MB:.1f} MB for one more worker")
    return found


def measure(bench: Bench, kinds: Sequence[str]) -> list[Result]:
    """All systems, one after the other, at each kind of work."""
    return [result for work in kinds for result in at_work(dataclasses.replace(bench, work=work))]


def at_work(bench: Bench) -> list[Result]:
    """Those that do this kind of work."""
    found = {f"{name}, {bench.work} work": taken(bench, name) for name in WORK[bench.work]}
    ours = [name for name in found if name.startswith("qmaster")]
    results = [
        Result(
            f"sum of PSS, {name}", each.total / MB, "MB",
            beside={"not of workers": each.others / MB, "fewest tasks of a worker": each.fewest},
        ) for name, each in found.items()
    ]  # fmt: skip
    results += [
        at_most(f"sum of PSS, {own} / {name}", found[own].total / each.total, "", QUARTER)
        for own in ours for name, each in found.items() if name not in ours
    ]  # fmt: skip
    return results + [line for name, each in found.items() for line in a_worker(name, each)]


def a_worker(name: str, found: Footprint) -> list[Result]:
    """What one worker of a system takes."""
    kinds = {
        "PSS": [each.pss for each in found.workers],
        "private": [each.private for each in found.workers],
        "page tables": [each.page_tables for each in found.workers],
    }
    spreads = {kind: spread(sizes, MB) for kind, sizes in kinds.items()}
    lines = [
        Result(f"{kind} a worker, {name}", each["median"], "MB", beside={"p90": each["p90"], "max": each["max"]})
        for kind, each in spreads.items()
    ]
    return [*lines, Result(f"workers a GB, {name}", 1024 * MB / found.marginal, "")]
