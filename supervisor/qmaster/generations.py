"""Generations of the application's code, one mold each: which is in force, which comes, which goes. Pure.

A generation is LOADING, then READY, then PROVEN when one of its slots has finished a task, or when its slots have lived
for a while with nothing to do. As soon as it is ready it is in force: all new slots are its. The one before stays until
its last slot is gone and the new one is proven, because it is what we return to if the new code fails. Never are there
more than two molds: a reload that is asked for meanwhile is remembered.

Events change the state by methods; ``decide`` changes nothing: from the state, what lives of each generation and the
time it says what is to be done. It may be asked again after any part of that was done.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qslots.units import counted

from .crashloops import QUICK

AGAIN = 5.0  # seconds before a mold that died is made again
DEADLY = 3  # slots of a new generation that die at birth: it is given up
DEAF = 2  # orders in a row that were not carried out: the mold is given up
TRIAL = 60.0  # seconds without birth or death that prove a generation which had nothing to do
ROOM_WITHIN = 30.0  # seconds in which room for a second mold must have come free


class State(StrEnum):
    """The life of a mold; it only goes on."""

    LOADING = "loading"
    READY = "ready"
    PROVEN = "proven"
    ENDING = "ending"  # killed, not reaped yet


class Cause(StrEnum):
    """Why a mold is made."""

    START = "start"
    RELOAD = "reload"  # settings and code anew
    REFORK = "refork"  # the same settings
    REPLACEMENT = "replacement"  # its predecessor has died


@dataclass(slots=True)
class Generation:
    """One mold that lives, or is not reaped yet."""

    number: int
    cause: Cause
    since: float  # when it was begun
    state: State = State.LOADING
    touched: float = 0.0  # its last birth or death, or when it was ready
    deaths: int = 0  # at birth, before any of its slots had finished a task
    fault: str = ""  # how the last of them ended
    deaf: int = 0  # orders in a row that were not carried out
    worked: bool = False  # a slot that is dead by now had finished a task
    why: str = ""  # of its end


@dataclass(frozen=True, slots=True)
class Tally:
    """The slots of one generation: how many, whether one has finished a task, the age of the oldest running one."""

    slots: int = 0
    worked: bool = False
    oldest: float = 0.0


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes: what is left of the memory beside the reserve, and what a second mold needs."""

    spare: int
    needed: int

    @property
    def short(self) -> int:
        """What is missing; 0 if it is there."""
        return max(0, self.needed - self.spare)


@dataclass(frozen=True, slots=True)
class View:
    """What ``decide`` must know beside the state. ``room`` is None while nothing is measured."""

    tallies: Mapping[int, Tally]
    room: Room | None
    load_timeout: float  # seconds

    def of(self, number: int) -> Tally:
        """The slots of one generation."""
        return self.tallies.get(number, Tally())


@dataclass(frozen=True, slots=True)
class Start:
    """Make a mold."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Prove:
    """It has shown that it works."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """End a mold. ``failed``: it was to take over and cannot."""

    number: int
    why: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Free:
    """Let idle slots go: a mold is to come and so many bytes are missing."""

    short: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The reload that waits is not begun."""

    why: str


Action = Start | Prove | End | Free | Refuse


@dataclass(slots=True)
class Asked:
    """A reload that was asked for and is not begun; since when room is made for it."""

    cause: Cause
    freeing_since: float | None = None


@dataclass(slots=True)
class Outcome:
    """What became of the last attempt at another generation. ``done`` None: it is under way."""

    cause: Cause
    number: int | None
    done: bool | None = None
    why: str = ""


@dataclass(slots=True)
class Generations:
    """The generations of one master."""

    molds: dict[int, Generation] = field(default_factory=dict)
    last: int = 0  # the highest number given
    present: int = 0  # the one in force, 0 before the first; its mold may be dead
    asked: Asked | None = None
    again_at: float | None = None  # when a dead mold of the present generation is made again
    outcome: Outcome | None = None
    dropped: dict[int, str] = field(default_factory=dict)  # were ready, failed: number -> why; their slots are to leave

    # What happens

    def ask(self, cause: Cause) -> None:
        """A reload is wanted. Of several that wait the stronger one stands: a reload does what a refork does."""
        if self.asked is None:
            self.asked = Asked(cause)
        elif cause is Cause.RELOAD:
            self.asked.cause = cause

    def started(self, cause: Cause, now: float) -> int:
        """A mold is made; returns its number."""
        self.last += 1
        self.molds[self.last] = Generation(self.last, cause, now)
        self.again_at = None
        if self.asked is not None and cause is self.asked.cause:
            self.asked = None
        if cause is not Cause.START:
            self.outcome = Outcome(cause, self.last)
        return self.last

    def loaded(self, number: int, now: float) -> None:
        """It is ready, and in force from now on."""
        mold = self.molds[number]
        if mold.state is State.LOADING:
            mold.state, mold.touched = State.READY, now
            self.present = number

    def proven(self, number: int) -> None:
        """It has shown that it works."""
        mold = self.molds[number]
        if mold.state is State.READY:
            mold.state = State.PROVEN

    def ended(self, number: int, why: str, *, failed: bool) -> None:
        """It was killed by us. If it had taken over, the one before is in force again."""
        mold = self.molds[number]
        was_ready = mold.state is not State.LOADING
        mold.state, mold.why = State.ENDING, why
        if failed:
            self._fail(mold, why)
        if failed and was_ready:
            self._step_back(number, why)

    def gone(self, number: int, how: str, now: float) -> None:
        """Its process was reaped; ``how`` it ended is said only if that was not our doing."""
        mold = self.molds.pop(number)
        if mold.state is not State.ENDING:
            self._fail(mold, how)
            if mold.state is State.READY:
                self._step_back(number, how)
        if not any(each.state is not State.ENDING and each.number >= self.present for each in self.molds.values()):
            self.again_at = now + AGAIN

    def freeing(self, now: float) -> None:
        """Room is being made for the reload that waits."""
        if self.asked is not None and self.asked.freeing_since is None:
            self.asked.freeing_since = now

    def refused(self, why: str) -> None:
        """The reload that waited is not begun."""
        if self.asked is not None:
            self.outcome, self.asked = Outcome(self.asked.cause, None, done=False, why=why), None

    def put_off(self, why: str, now: float) -> None:
        """No mold could be made."""
        if self.asked is not None:
            self.refused(why)
        if self.again_at is not None:
            self.again_at = now + AGAIN

    def born(self, number: int, now: float) -> None:
        """A slot was born."""
        if number in self.molds:
            self.molds[number].touched, self.molds[number].deaf = now, 0

    def not_born(self, number: int) -> None:
        """An order was not carried out in time."""
        if number in self.molds:
            self.molds[number].deaf += 1

    def died(self, number: int, now: float, *, at_birth: str, worked: bool) -> None:
        """A slot is dead; ``at_birth``: how it ended, if unasked and soon after its birth. ``worked``: it had finished
        a task.
        """
        if number in self.molds:
            mold = self.molds[number]
            mold.touched, mold.worked = now, mold.worked or worked
            if at_birth and not worked:
                mold.deaths, mold.fault = mold.deaths + 1, at_birth

    def _fail(self, mold: Generation, why: str) -> None:
        mold.why = why
        if self.outcome is not None and self.outcome.number == mold.number:  # also if it had seemed to succeed
            self.outcome.done, self.outcome.why = False, why

    def _step_back(self, number: int, why: str) -> None:
        before = self.before(number)
        if before is not None and number == self.present:
            self.present = before.number
            self.dropped[number] = why

    def before(self, number: int) -> Generation | None:
        """The generation that goes on working if this one is dropped."""
        older = [mold for mold in self.molds.values() if mold.number < number and mold.state in _SERVES]
        return max(older, key=lambda mold: mold.number, default=None)

    # What is

    @property
    def can_fork(self) -> bool:
        """Whether the mold of the present generation lives."""
        return self.present in self.molds and self.molds[self.present].state in _SERVES

    @property
    def is_reloading(self) -> bool:
        """Whether another generation is loading beside the one in force."""
        return bool(self.present) and any(mold.state is State.LOADING for mold in self.molds.values())

    @property
    def two(self) -> bool:
        """Whether there are two molds, be it that one is just ending."""
        return len(self.molds) > 1

    def waits_for(self, view: View) -> str:
        """What a reload that was asked for waits for, "" if it is begun in this turn."""
        loading = next((mold for mold in self.molds.values() if mold.state is State.LOADING), None)
        if loading is not None:
            return f"generation {loading.number} is loading"
        older = [number for number in self.molds if number != self.present]
        if older:
            return _waits_for_slots(older[0], view.of(older[0]), self.present)
        if self.asked is not None and self.asked.freeing_since is not None and view.room is not None:
            return f"room is made for a second mold: {view.room.short >> 20} MB are missing"
        return ""

    def succeeded(self, view: View, now: float) -> bool:
        """Whether the attempt under way has come to its end: no older slot is left, and the new ones live."""
        outcome = self.outcome
        if outcome is None or outcome.done is not None or outcome.number != self.present or not self.can_fork:
            return False
        mold, others = self.molds[self.present], any(view.of(n).slots for n in view.tallies if n != self.present)
        return not others and (mold.state is State.PROVEN or _stands(mold, view, now, QUICK))


_SERVES = (State.READY, State.PROVEN)


def decide(state: Generations, view: View, now: float) -> list[Action]:
    """What is to be done now."""
    actions: list[Action] = []
    for mold in state.molds.values():
        action = _of_mold(state, mold, view, now)
        if action is not None:
            actions.append(action)
    if not actions and len(state.molds) < 2:  # one thing after the other: what follows is decided on what was done
        actions += _next(state, view, now)
    return actions


def _of_mold(state: Generations, mold: Generation, view: View, now: float) -> Action | None:
    """What one mold gives cause for."""
    match mold.state:
        case State.LOADING if now - mold.since >= view.load_timeout:
            why = f"it was not loaded within {view.load_timeout:g} s (server.load_timeout)"
            return End(mold.number, why, failed=True)
        case State.READY | State.PROVEN if mold.number < state.present:
            is_over = not view.of(mold.number).slots and state.can_fork
            proven = is_over and state.molds[state.present].state is State.PROVEN
            return End(mold.number, f"generation {state.present} has taken over", failed=False) if proven else None
        case State.READY | State.PROVEN if mold.deaf >= DEAF:
            return End(mold.number, f"its mold does not fork: {mold.deaf} orders in a row, no birth", failed=True)
        case State.READY if mold.worked or view.of(mold.number).worked:
            return Prove(mold.number)
        case State.READY if mold.deaths >= DEADLY and state.before(mold.number) is not None:
            return End(mold.number, f"{mold.deaths} of its slots died at birth, the last one {mold.fault}", failed=True)
        case State.READY if _stands(mold, view, now, TRIAL if state.asked is None else QUICK):  # a reload waits for it
            return Prove(mold.number)
    return None


def _stands(mold: Generation, view: View, now: float, seconds: float) -> bool:
    """Whether for so long none of its slots was born or died, and slots of it live, or none of any."""
    alive = bool(view.of(mold.number).slots) or not any(tally.slots for tally in view.tallies.values())
    return alive and now - mold.touched >= seconds


def _next(state: Generations, view: View, now: float) -> list[Action]:
    """The mold that is to be made, if there is to be one. There is room for one more."""
    asked, serving = state.asked, [mold for mold in state.molds.values() if mold.state in _SERVES]
    if not state.can_fork and (serving or not state.molds):  # the mold of those that work now is lost
        if asked is not None:
            return [Start(asked.cause)]
        return [Start(Cause.REPLACEMENT)] if state.again_at is not None and now >= state.again_at else []
    if asked is None or not serving or view.room is None:
        return []
    if not view.room.short:
        return [Start(asked.cause)]
    if asked.freeing_since is None or now - asked.freeing_since < ROOM_WITHIN:
        return [Free(view.room.short)]
    why = (
        f"a second mold needs {view.room.needed >> 20} MB and {max(0, view.room.spare) >> 20} MB are free beside "
        "server.reserve_memory: make room and try again, or restart qmaster"
    )
    return [Refuse(why)]


def _waits_for_slots(number: int, tally: Tally, present: int) -> str:
    if not tally.slots:
        return f"generation {present} has not finished a task yet"
    age = f", the oldest task runs for {tally.oldest:.0f} s" if tally.oldest else ""
    return f"{counted(tally.slots, 'slot')} of generation {number}{age}"
