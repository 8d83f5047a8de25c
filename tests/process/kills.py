"""Kills slots at random points and holds what follows against what was seen: who had finished, who ran, who waited.

A slot is stopped (SIGSTOP) at a point that nobody chose, its scoreboard record is read while it stands, and it is
killed. From then on it is known which task was running and not marked; only that one may run again, and only that one
may be charged. What handlers did is in a log that every task writes to twice, by single appends.
"""

import collections
import itertools
import os
import pathlib
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from process.fleet import Fleet
from support.waiting import wait_for

from qslots.scoreboard import Field, Record, Scoreboard

SOURCE = """\
import random

LOG = []


def log(kind: str, n: int) -> None:
    if LOG[:1] != [os.getpid()]:
        LOG[:] = [os.getpid(), os.open(HERE / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)]
    os.write(LOG[1], b"%s %d\\n" % (kind.encode(), n))


@task(batch=20, backoff="1ms..5ms", max_crashes=1000000)
def work(n: int) -> None:
    log("begin", n)
    until = time.monotonic() + random.uniform(0, 0.0003)
    while time.monotonic() < until:
        pass
    log("end", n)
"""
AT_ONCE = 500  # tasks put in one go
BACKLOG = 1000  # tasks that always wait


@dataclass
class Seen:
    """What the kills were, and what followed."""

    kills: int = 0
    running: collections.Counter[int] = field(default_factory=collections.Counter)  # task -> kills in the middle of it
    with_pack: int = 0  # kills of a slot that held a pack
    marked: int = 0  # finished tasks in packs of slots that were killed
    untouched: int = 0  # tasks in those packs that had not begun
    tasks: int = 0
    faults: list[str] = field(default_factory=list)


def kill_slots(
    fleet: Fleet, slots: int, kills: int, *, seed: int, say: Callable[[int], object] = lambda _: None
) -> Seen:
    """Runs the loop; ``say`` hears how many kills are done. ``faults`` of what is returned are broken promises."""
    fleet.launch(SOURCE, *[("work",)] * slots)
    board = _board(fleet)
    chance, seen, numbers = random.Random(seed), Seen(), itertools.count()
    while seen.kills < kills:
        _feed(fleet, numbers)
        if _kill_one(fleet, board, chance, seen):
            say(seen.kills)
    seen.tasks = next(numbers)
    fleet.wait_empty(within=60.0)
    _check(fleet, seen)
    return seen


def _board(fleet: Fleet) -> Scoreboard:
    [path] = (fleet.folder / "run").glob("*.board")
    return Scoreboard.open(str(path))


def _feed(fleet: Fleet, numbers: "itertools.count[int]") -> None:
    if fleet.stats().active < BACKLOG:
        some = list(itertools.islice(numbers, AT_ONCE))
        fleet.app.work.using().enqueue_many([(n,) for n in some], ids=[str(n) for n in some])


def _kill_one(fleet: Fleet, board: Scoreboard, chance: random.Random, seen: Seen) -> bool:
    """Stops one slot, reads its record, kills it. False if it is gone, or has had no work yet: to die then is held
    against the place, which would be empty for longer and longer.
    """
    slot = chance.choice(fleet.live() or [None])
    if slot is None:
        return False
    pid, record = slot["pid"], board.record(slot["index"])
    try:
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: _state(pid) in "TZX", f"slot {slot} to stand still")
        if not (record.words[Field.HELD] or record.words[Field.DONE]):
            os.kill(pid, signal.SIGCONT)
            return False
        _note(record, seen)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    seen.kills += 1
    wait_for(lambda: _state(pid) == "X", f"slot {slot} to be reaped")
    return True


def _state(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _note(record: Record, seen: Seen) -> None:
    if not record.words[Field.HELD]:
        return
    size, position = record.words[Field.SIZE], record.words[Field.TASK]
    marks = bytes(record.marks[:size])
    runs = bool(position) and marks[position - 1] != 1
    seen.with_pack += 1
    seen.marked += marks.count(1)
    seen.untouched += size - marks.count(1) - runs
    if runs:
        seen.running[int(record.text("task"))] += 1


def _check(fleet: Fleet, seen: Seen) -> None:
    begun: collections.Counter[int] = collections.Counter()
    ended: collections.Counter[int] = collections.Counter()
    for line in (fleet.folder / "log").read_text().splitlines():
        kind, number = line.split()
        (begun if kind == "begin" else ended)[int(number)] += 1
    for n in range(seen.tasks):
        if not ended[n]:
            seen.faults.append(f"task {n} never ended")
        if begun[n] > 1 + seen.running[n]:
            seen.faults.append(f"task {n} began {begun[n]} times, and was running in {seen.running[n]} kills")
    stats, charged = fleet.stats(), sum(seen.running.values())
    if stats.crashed != charged:
        seen.faults.append(f"{stats.crashed} crashes were charged, {charged} tasks ran when their slots were killed")
    if stats.failed or stats.lost or stats.buried or stats.done != seen.tasks:
        seen.faults.append(f"of {seen.tasks} tasks: {stats}")
