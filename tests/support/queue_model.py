"""What a queue is, without a server: data, and one method an operation. Pure.

The scripts read their server's clock, the model has none: a ``Moment`` that a script counts from its clock is ``fresh``
until whoever compares the two has read it from the server.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qslots.outcomes import Outcome

HALF_HOUR = 1_800_000_000  # no test lasts so long: what is due later than this is not due
EXPIRED = "its lock expired: the server that held it was lost"
BORN: list[int | str] = [0, 0, 0, 0, ""]  # a fate: retries, failures, crashes, losses, last error


@dataclass
class Moment:
    """µs of the server's clock; while it is ``fresh``, µs from the call on."""

    micros: int
    fresh: bool = False

    @classmethod
    def of(cls, when: str) -> "Moment":
        """As ``put`` and ``move`` are told: "" now, "+µs" from now, "µs" at."""
        return cls(int(when.removeprefix("+") or 0), fresh=not when.isdecimal())


@dataclass
class Record:
    """What a producer has said."""

    handler: str
    collection: str
    body: bytes
    put: Moment


@dataclass
class Wish:
    """What was said of a task while a slot had it: gone, rearm or replace."""

    kind: str
    at: Moment | None = None
    record: Record | None = None
    counts: str = ""  # of one that is to go: deleted or dropped


@dataclass
class Task:
    """A living task, in one place: scheduled, parked, locked or buried."""

    record: Record
    at: Moment
    place: str = "scheduled"
    fate: list[int | str] | None = None
    buried: Moment | None = None
    wish: Wish | None = None


@dataclass
class Pack:
    """What one lock holds; an id that has ended is None."""

    handler: str
    ids: list[str | None]
    expired: bool = False


@dataclass
class QueueModel:
    """One queue."""

    now: int = 0
    tasks: dict[str, Task] = field(default_factory=dict)
    packs: dict[str, Pack] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    gates: dict[str, str] = field(default_factory=dict)  # queue: | handler:X | collection:X -> paused | resuming
    drops: dict[str, int] = field(default_factory=dict)  # collection, "" for all -> instant
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def is_due(self, at: Moment) -> bool:
        return at.micros < (0 if at.fresh else self.now) + HALF_HOUR

    def placed(self, place: str) -> dict[str, Task]:
        return {name: task for name, task in self.tasks.items() if task.place == place}

    def due(self, handler: str) -> list[str]:
        """What is due in the schedule of a handler, in order."""
        waiting = {name: task for name, task in self.placed("scheduled").items() if task.record.handler == handler}
        return sorted((name for name in waiting if self.is_due(waiting[name].at)), key=self._turn)

    def _turn(self, name: str) -> tuple[int, str]:
        return self.tasks[name].at.micros, name

    def is_open(self, handler: str) -> bool:
        return not {"queue:", f"handler:{handler}"} & self.gates.keys()

    def unheard(self, handlers_of: Mapping[str, Iterable[str]]) -> set[str]:
        """The handlers that have something for those who wait."""
        waited_for = {name for holder in self.waiting & handlers_of.keys() for name in handlers_of[holder]}
        return {name for name in waited_for if self.due(name) and self.is_open(name)}

    def is_dropped(self, record: Record) -> bool:
        return record.put.micros <= max(self.drops.get("", 0), self.drops.get(record.collection, 0))

    # Producers

    def put(self, names: Sequence[str], record: Record, at: Moment, how: str) -> int | None:
        """How many were stored or changed; None: refused as duplicates."""
        for name in names:
            task = self.tasks.get(name)
            if how == "refuse" and (task or name in self.finished or names.count(name) > 1):
                return None
            if how != "ignore" and task and task.record.handler != record.handler:
                return None
        new = {name for name in names if name not in self.tasks and not (how == "ignore" and name in self.finished)}
        there = set(names) & self.tasks.keys()
        changed = there if how in ("replace", "rearm") else {name for name in there if self._is_leaving(name, record)}
        for name in changed:
            self._change(self.tasks[name], record, at, how)
        self.tasks |= {name: Task(record, at) for name in new}
        self.count("put", len(new))
        return len(new | changed)

    def _is_leaving(self, name: str, record: Record) -> bool:
        """Deleted while a slot has it: what is put now comes after it."""
        task = self.tasks[name]
        return task.wish is not None and task.wish.kind == "gone" and task.record.handler == record.handler

    def _change(self, task: Task, record: Record, at: Moment, how: str) -> None:
        before = task.wish
        if task.place == "locked":
            is_new = how == "replace" or (before is not None and before.kind == "gone")
            new = record if is_new else before.record if before is not None else None
            task.wish = Wish("replace" if new else "rearm", at, new)
            return
        if how == "replace":
            task.record = record
        if how == "replace" or task.place == "buried":
            task.fate = None
        task.at, task.place = at, "scheduled"

    # Slots

    def visit(
        self, holder: str, previous: str | None, want: Mapping[str, int], *, window: bool, busy: int, seq: int
    ) -> bool:  # fmt: skip
        """The first half of an exchange; returns whether the pack before was gone. ``busy``: µs that it ran."""
        self._time(self.packs.get(previous or ""), want, busy, seq)
        found = previous is None or self.end(previous, {}, set(), "done", window=window)
        self.reap(want)
        self.waiting.discard(holder)
        return not found

    def _time(self, pack: Pack | None, want: Mapping[str, int], busy: int, seq: int) -> None:
        """What is counted of the time that handlers ran: of packs done in one go also by their size."""
        self.ran(busy)
        size, most = (len(pack.ids), want.get(pack.handler, 0)) if pack else (0, 0)
        if pack and busy and None not in pack.ids and (size > 1 or (most > 1 and seq % 4 == 0)):
            sums = {"n": 1, "k": size, "kk": size**2, "t": busy, "kt": size * busy, "tt": busy**2}
            for name, more in sums.items():
                self.count(f"pack:{name}", more)

    def ran(self, busy: int) -> None:
        """Handlers ran for so long in one go, µs."""
        self.count("busy", busy)
        if busy:
            self.count(f"took:{busy.bit_length()}")

    def offer(self, handlers: Sequence[str]) -> tuple[str, list[str]] | None:
        """The second half: the handler that is due longest, and which of its tasks may be taken, in order."""
        for gate in [gate for gate, state in self.gates.items() if state == "resuming"]:
            self.bring_back(gate, handlers)
        heads = {handler: self.due(handler)[:1] for handler in handlers if self.is_open(handler)}
        due = [handler for handler in handlers if heads.get(handler)]
        if not due:
            return None
        handler = min(due, key=lambda each: self.tasks[heads[each][0]].at.micros)
        clear = []
        for name in self.due(handler):
            task = self.tasks[name]
            if self.is_dropped(task.record):
                del self.tasks[name]
                self.count("dropped")
            elif self.gates.get(f"collection:{task.record.collection}") == "paused":
                task.place = "parked"
            else:
                clear.append(name)
        return handler, clear

    def take(self, lock: str, handler: str, names: Iterable[str]) -> None:
        self.packs[lock] = Pack(handler, list(names))
        for name in names:
            self.tasks[name].place = "locked"
            self.count("taken")

    def end(
        self, lock: str, said: Mapping[int, Outcome], marks: set[int], rest: str, why: str = "", *, window: bool = False
    ) -> bool:
        """What befalls the tasks of a lock, by position; False if it is gone."""
        pack = self.packs.get(lock)
        if pack is None:
            return False
        for position, name in enumerate(pack.ids, 1):
            outcome = said.get(position) or Outcome("done" if position in marks else rest, why)
            if name is not None and outcome.kind != "keep":
                self._finish(name, outcome, window)
                pack.ids[position - 1] = None
        if rest != "keep":
            del self.packs[lock]
        return True

    def _finish(self, name: str, outcome: Outcome, window: bool) -> None:
        task, done = self.tasks[name], outcome.kind == "done"
        wish, task.wish = task.wish, None
        if wish is not None:
            self.count("done" if done else "renewed")
            if wish.at is None:
                del self.tasks[name]
                self.count(wish.counts)
                return
            task.record, task.at, task.place = wish.record or task.record, wish.at, "scheduled"
            task.fate = None if done or wish.kind == "replace" else task.fate
        elif done:
            del self.tasks[name]
            self.count("done")
            if window:
                self.finished.add(name)
        else:
            self._fail(task, outcome)

    def _fail(self, task: Task, outcome: Outcome) -> None:
        """One of the ends that leave a task in the queue."""
        kind, charges = outcome.kind, {"fail": (0, 1), "crash": (0, 2, 3), "retry": (0,), "loss": (3,), "bury": ()}
        if kind in charges:
            before = task.fate or BORN
            task.fate = [int(n) + (i in charges[kind]) for i, n in enumerate(before[:4])] + [outcome.why]
        counted = {"fail": "failed", "crash": "crashed", "loss": "lost", "back": "returned"}
        if kind in counted:
            self.count(counted[kind])
        if kind == "bury" or (
            task.fate and kind in ("fail", "crash") and int(task.fate[charges[kind][1]]) >= outcome.limit
        ):
            self._bury(task)
            return
        task.place = "scheduled"
        if kind in ("fail", "crash", "retry", "postpone") or (kind == "loss" and outcome.delay is not None):
            retries = int(task.fate[0]) if task.fate else 0
            delay = min(outcome.cap, outcome.base * 2 ** (retries - 1)) if outcome.delay is None else outcome.delay
            task.at = Moment(int(delay), fresh=True)

    def _bury(self, task: Task) -> None:
        task.place, task.buried = "buried", Moment(0, fresh=True)
        self.count("burials")

    def reap(self, handlers: Iterable[str]) -> int:
        """What any visitor does with expired locks of handlers that he knows; returns the number of tasks."""
        moved = 0
        for lock in [lock for lock, pack in self.packs.items() if pack.expired and pack.handler in handlers]:
            moved += len(self.packs[lock].ids)
            self.dead.add(lock.rpartition(":")[0])
            self.end(lock, {}, set(), "loss", EXPIRED)
        return moved

    def bring_back(self, gate: str, handlers: Iterable[str]) -> int:
        """The parked tasks of a collection that is resumed; the gate goes with the last."""
        mine = [task for task in self.placed("parked").values() if f"collection:{task.record.collection}" == gate]
        back = [task for task in mine if task.record.handler in handlers]
        for task in back:
            task.place = "scheduled"
        if len(back) == len(mine):
            del self.gates[gate]
        return len(back)

    # Operators

    def refusal(self, name: str) -> str:
        """Why a task cannot be changed, "" if it can."""
        if name not in self.tasks:
            return "unknown"
        return "locked" if self.tasks[name].place == "locked" else ""

    def move(self, name: str, at: Moment) -> None:
        task = self.tasks[name]
        task.fate = None if task.place == "buried" else task.fate
        task.at, task.place = at, "scheduled"

    def delete(self, name: str) -> None:
        if self.tasks[name].place == "locked":
            self.tasks[name].wish = Wish("gone", counts="deleted")
        else:
            del self.tasks[name]
            self.count("deleted")

    def bury(self, name: str, why: str) -> None:
        task = self.tasks[name]
        task.fate = [*(task.fate or BORN)[:4], why]
        self._bury(task)

    def kick(self, count: int) -> int:
        buried = {name: task.buried.micros for name, task in self.placed("buried").items() if task.buried}
        longest = sorted(buried, key=lambda name: (buried[name], name))[:count]
        for name in longest:
            self.move(name, Moment(0, fresh=True))
        return len(longest)

    def droppable(self, collection: str, instant: int) -> set[str]:
        """What a drop that began at this instant has still to discard."""
        found = set()
        for name, task in self.tasks.items():
            wish = task.wish
            renewed = wish is not None and wish.record is not None and wish.record.put.micros > instant
            marked = wish is not None and wish.kind == "gone"
            inside = collection in ("", task.record.collection) and task.record.put.micros <= instant
            if inside and not renewed and not marked:
                found.add(name)
        return found

    def drop(self, name: str) -> None:
        if self.tasks[name].place == "locked":
            self.tasks[name].wish = Wish("gone", counts="dropped")
        else:
            del self.tasks[name]
            self.count("dropped")
