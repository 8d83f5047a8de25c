"""Which slots are to give memory back, and which to leave because they have grown, served long or grown old. Pure.

The ladder: a slot above its limit is first told to tidy (collect, trim, measure); only one that is still above it is to
leave. What counts is what a slot has made private since its birth, never what it shares. One a second at most, and few
at a time: those that wait lose nothing, and all of a server's slots starting anew at once would.

Where slots reach their limit soon after birth, again and again, that is what the application needs: recycling them for
growth stops, and says so, until the limit or the code has changed.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from qslots.units import counted

EVERY = 1.0  # seconds from one recycling to the next
AT_A_TIME = 0.1  # of the live slots, and one at least
SOON = 60.0  # seconds: who is at the limit at that age has not leaked, it has loaded what it needs
IN_A_ROW = 3  # of those, in one assignment: the plateau
LEAST_JITTER = 0.85
MOST_JITTER = 1.15
HARD = 2  # times the limit: killed, also inside a task
FRESH = 2  # times what a fresh slot needs: the least limit that makes sense
_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """One tenant of a slot; bytes and seconds. ``live`` is False for one that is leaving already."""

    index: int
    holder: str  # whose readings these are: an index has many tenants
    queues: tuple[str, ...]
    generation: int
    live: bool
    baseline: int  # private at birth
    grown: int | None  # private as last measured; None where that says nothing
    limit: int  # of its growth
    jitter: float  # of all its limits: what was born together shall not go together
    done: int
    age: float
    asked: bool = False  # to tidy, and has not answered yet
    tidied: int | None = None  # private as it answered last

    @property
    def growth(self) -> int:
        """Bytes that it has made private since birth."""
        return max(0, (self.grown or 0) - self.baseline)

    @property
    def allowed(self) -> float:
        """Bytes that it may grow."""
        return self.limit * self.jitter

    @property
    def is_above(self) -> bool:
        """Whether it has grown beyond its limit."""
        return self.growth > self.allowed

    @property
    def is_above_though_tidy(self) -> bool:
        """Whether tidying did not help."""
        return self.is_above and self.tidied is not None and self.tidied - self.baseline > self.allowed


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say beside the limit of memory; None is never."""

    after_tasks: int | None = None
    after: float | None = None  # seconds of life


@dataclass(frozen=True, slots=True)
class Streak:
    """Slots of one assignment in a row that were at their limit soon after birth; bytes."""

    limit: int
    generation: int
    growths: tuple[int, ...] = ()
    most: int = 0  # growth that was seen in this assignment at all
    seen_at: float = 0.0

    @property
    def is_plateau(self) -> bool:
        """Whether recycling for growth has stopped."""
        return len(self.growths) >= IN_A_ROW

    @property
    def needed(self) -> int:
        """The least limit, in MB, at which no slot of what was seen would be recycled, whatever its jitter."""
        return math.ceil(max(self.most, *self.growths) / LEAST_JITTER / _MB)


@dataclass(frozen=True, slots=True)
class Gone:
    """A slot that was told to leave: who, why and when."""

    holder: str
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class State:
    """What the next turn must know of this one."""

    next_at: float = 0.0
    away: Mapping[int, Gone] = field(default_factory=dict)  # index -> who was recycled and is not replaced yet
    streaks: Mapping[tuple[str, ...], Streak] = field(default_factory=dict)  # by assignment


@dataclass(frozen=True, slots=True)
class Tidy:
    """Order the slot to tidy."""

    index: int


@dataclass(frozen=True, slots=True)
class Recycle:
    """Let the slot leave after its task. ``reason``: growth, tasks or age."""

    index: int
    reason: str
    why: str


@dataclass(frozen=True, slots=True)
class Plateau:
    """No more recycling for growth in this assignment; one line for the log."""

    queues: tuple[str, ...]
    why: str


Verdict = Tidy | Recycle | Plateau


def decide(readings: Iterable[Reading], policy: Policy, state: State, now: float) -> tuple[list[Verdict], State]:
    """What is to be done now; may be called as often as anything was measured."""
    there = {reading.index: reading for reading in readings}
    live = [reading for reading in there.values() if reading.live]
    state = replace(state, away=_away(state, there, now), streaks=_streaks(state, live, now))
    candidates = [reading for reading in live if reading.index not in state.away]
    verdicts: list[Verdict] = [Tidy(reading.index) for reading in candidates if _is_untidy(reading, state)]
    places = max(1, int(AT_A_TIME * len(live))) - len(state.away)
    for reading in sorted(candidates, key=_urgency):
        verdict = _due(reading, policy, state)
        if verdict is None:
            continue
        if now < state.next_at or places < 1:
            break
        booked = _booked(reading, verdict, state, now)
        if verdict.reason == "growth" and booked.streaks[reading.queues].is_plateau:  # this one stays
            state = replace(state, streaks=booked.streaks)
            verdicts.append(Plateau(reading.queues, told(reading.queues, state.streaks[reading.queues])))
            continue
        return [*verdicts, verdict], booked
    return verdicts, state


_NONE = Streak(0, 0)


def _urgency(reading: Reading) -> tuple[float, int]:
    return -reading.growth / max(1.0, reading.allowed), -reading.done


def _is_untidy(reading: Reading, state: State) -> bool:
    """Whether it is to be asked to tidy: that may be all it takes."""
    return reading.is_above and not reading.asked and not reading.is_above_though_tidy and _counts(reading, state)


def _counts(reading: Reading, state: State) -> bool:
    """Whether growth is a reason to recycle in this assignment."""
    return not state.streaks.get(reading.queues, _NONE).is_plateau


def _due(reading: Reading, policy: Policy, state: State) -> Recycle | None:
    if reading.is_above_though_tidy and _counts(reading, state):
        figures = f"{mb(reading.growth)} over its {mb(reading.baseline)}, the limit is {mb(reading.limit)}"
        return Recycle(reading.index, "growth", f"has grown by {figures}, {mb(reading.allowed)} for this slot")
    if policy.after_tasks is not None and reading.done >= (here := policy.after_tasks * reading.jitter):
        figures = f"{counted(reading.done, 'task')}, the limit is {policy.after_tasks:,}, {here:,.0f} for this slot"
        return Recycle(reading.index, "tasks", f"has served {figures}")
    if policy.after is not None and reading.age >= (here := policy.after * reading.jitter):
        figures = f"{reading.age:.0f} s old, the limit is {policy.after:.0f} s, {here:.0f} s for this slot"
        return Recycle(reading.index, "age", f"is {figures}")
    return None


def _booked(reading: Reading, verdict: Recycle, state: State, now: float) -> State:
    """The state after this verdict."""
    away = {**state.away, reading.index: Gone(reading.holder, verdict.why, now)}
    streaks = dict(state.streaks)
    if verdict.reason == "growth":
        known = streaks.get(reading.queues, Streak(reading.limit, reading.generation))
        growths = (*known.growths, reading.growth) if reading.age <= SOON else ()
        most = max(known.most, reading.growth) if growths else 0
        streaks[reading.queues] = replace(known, growths=growths, most=most, seen_at=now)
    return State(now + EVERY, away, streaks)


def _away(state: State, there: Mapping[int, Reading], now: float) -> dict[int, Gone]:
    """Those whose place has no new tenant yet. A place that stays empty for long is not wanted any more."""
    return {
        index: gone
        for index, gone in state.away.items()
        if (there[index].holder == gone.holder if index in there else now - gone.at < SOON)
    }


def _streaks(state: State, live: list[Reading], now: float) -> dict[tuple[str, ...], Streak]:
    """Those that still mean something: a new limit or new code begins anew; so does what nobody serves any more."""
    kept = {queues: streak for queues, streak in state.streaks.items() if now - streak.seen_at < SOON}
    for reading in live:
        streak = kept.get(reading.queues)
        if streak is None or reading.generation < streak.generation:
            continue
        if (reading.limit, reading.generation) != (streak.limit, streak.generation):
            del kept[reading.queues]
        else:
            kept[reading.queues] = replace(streak, most=max(streak.most, reading.growth), seen_at=now)
    return kept


def told(queues: tuple[str, ...], streak: Streak) -> str:
    """A plateau in words, with the remedy."""
    grown = ", ".join(f"{growth / _MB:.0f}" for growth in streak.growths)
    return (
        f"slots of {', '.join(queues)} need more than their limit of {mb(streak.limit)}: {len(streak.growths)} in a "
        f"row had grown by {grown} MB within {SOON:.0f} s of their birth; they are not recycled for growth any more: "
        f"set server.private_limit to at least {streak.needed}M, or the memory of the queue"
    )


def too_low(limit: int, fresh: int) -> str:
    """Why this limit is refused, "" if it is not; ``fresh``: bytes that a slot has made private when it is born."""
    if limit >= FRESH * fresh:
        return ""
    return (
        f"server.private_limit {_written(limit)} is less than twice what a fresh slot of this application needs "
        f"({mb(fresh)}): set at least {_written(math.ceil(FRESH * fresh / _MB) * _MB)}"
    )


def _written(amount: int) -> str:
    """A size as it stands in settings."""
    return f"{amount / _MB:.4g}M" if amount >= _MB else f"{amount / 1024:.4g}K"


def beyond(growth: int, before: int, limit: int) -> tuple[str, bool]:
    """Why a slot is killed in the middle of its task ("" if it is not), and whether that task is to blame: it alone has
    outgrown the limit. All in bytes; ``before``: growth that was seen before it began.
    """
    if growth <= HARD * limit:
        return "", False
    why = f"used too much memory: {mb(growth)} more than at its birth, twice its limit of {mb(limit)} is the most"
    return why, growth - before > limit


def mb(amount: float) -> str:
    """Bytes for people."""
    if abs(amount) < _MB:
        return f"{amount / 1024:.0f} kB"
    found = round(amount / _MB, 1)
    return f"{found:.0f} MB" if abs(found) >= 10 or found == int(found) else f"{found:.1f} MB"
