"""What an exit means, and what a dead slot left behind according to its scoreboard record. Pure.

Every exit is decoded: a signal and an exit code by name, want of memory by the kernel's counters, our own kill with its
reason; each falls under one of few words (``reason``), by which deaths are counted.
Who is charged: the task that ran alone in a process that its own doing ended (a fatal signal, an exit, its hard limit).
Of several that ran at once each comes back narrower, as a loss. Anything else goes back without a charge.
"""

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from qslots.outcomes import Outcome
from qslots.scoreboard import DONE, RUNS, WHOLE_PACK, Field, Record
from qslots.servers import parted

from .crashloops import Work
from .letters import Charged, SettleDead
from .reasons import Reason
from .watch import Overdue


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a slot ended. ``own``: its running task is to blame; ``reason``: under what it is counted."""

    text: str
    own: bool
    reason: str = Reason.MASTER


_EXIT_NAMES = (  # of sysexits.h, from 64 on
    "EX_USAGE", "EX_DATAERR", "EX_NOINPUT", "EX_NOUSER", "EX_NOHOST", "EX_UNAVAILABLE", "EX_SOFTWARE", "EX_OSERR",
    "EX_OSFILE", "EX_CANTCREAT", "EX_IOERR", "EX_TEMPFAIL", "EX_PROTOCOL", "EX_NOPERM", "EX_CONFIG",
)  # fmt: skip
_FIRST_NAMED = 64


class MemoryKills:
    """Tells a SIGKILL of the kernel, for want of memory, from others: by its count of those."""

    def __init__(self, count: int) -> None:
        self._before = self._last = count

    def look(self, count: int) -> None:
        """Once a second. A process may die some time after it was counted, so the look before the last one matters.
        The count falls when a control group goes.
        """
        self._before, self._last = (count if count < self._last else max(self._last, self._before)), count

    def claim(self, count: int) -> bool:
        """Whether there is such a kill that stands for no other death yet; then it stands for this one."""
        is_one = count > self._before
        self._before += is_one
        return is_one


def cause_of(
    status: int, why: str, record: Record, overdue: Overdue | None, *, killed: Reason | None = None,
    starved: bool = False,
) -> Cause:  # fmt: skip
    """The cause of an exit. ``why``, ``killed``: why we have asked it to leave, and sent SIGKILL, if we have;
    ``starved``: the kernel killed it for want of memory. ``overdue``: the task for whose hard limit we killed, as read
    before; it may have ended between the reading and the kill, and the task that died in its stead is innocent.
    """
    number = status & 0x7F
    if overdue is not None and number == signal.SIGKILL:
        did, reason = overdue.did, Reason.MEMORY if overdue.why else Reason.TIME_LIMIT
        if (record.words[Field.TASK], record.words[Field.START]) == (overdue.task, overdue.start):
            return Cause(f"was killed: it {did}", own=True, reason=reason)
        return Cause(f"was killed: the task before this one {did}", own=False, reason=reason)
    if killed is not None and number == signal.SIGKILL:
        return Cause(f"was ended by its master: {why}", own=False, reason=killed)
    if why and number == signal.SIGTERM:  # a task has given SIGTERM back its own meaning
        return Cause(f"was ended by its master: {why}", own=False, reason=Reason.LEFT)
    return decode(status, starved=starved)


def decode(status: int, *, starved: bool = False) -> Cause:
    """The cause of an exit that was not our doing, by its wait status."""
    number = status & 0x7F
    if not number:
        return Cause(exited(status >> 8), own=True, reason=f"exit:{status >> 8}")
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if starved:
        return Cause(f"was killed by {name}: the kernel was out of memory", own=True, reason=Reason.MEMORY)
    # SIGTERM and SIGKILL come from outside as a rule (an administrator, the kernel when memory is short), but a
    # task that eats all memory dies by SIGKILL too: it is charged, and buried only after max_crashes.
    return Cause(f"was killed by {name}", own=number != signal.SIGTERM, reason=f"signal:{name.removeprefix('signal ')}")


def exited(code: int) -> str:
    """An exit code in words."""
    if code == 0:
        return "ended by itself"
    at = code - _FIRST_NAMED
    return f"exited with code {code}" + (f" ({_EXIT_NAMES[at]})" if 0 <= at < len(_EXIT_NAMES) else "")


def is_crash(cause: Cause, record: Record) -> bool:
    """Whether a task has ended its own process: by a fatal signal or an exit, not at a limit, nor from outside."""
    of_itself = cause.reason.startswith(("signal:", "exit:")) and cause.reason != "signal:SIGKILL"
    return cause.own and of_itself and record.words[Field.TASK] != 0


def work(record: Record) -> Work | None:
    """Whose pack a slot holds, and how many tasks of that handler have ended in it since its birth."""
    words = record.words
    if not words[Field.HELD]:
        return None
    marked = bytes(record.marks[: words[Field.SIZE]]).count(DONE)
    return Work(parted(record.text("held_source"))[0], record.text("handler"), words[Field.ENDED] + marked)


def worked(record: Record, *, until: int, age: float) -> float:
    """Seconds that a slot worked on its pack until then (ns since boot) and that were not told yet; no more than its
    ``age`` (seconds), whatever it has written.

    They are booked as those of a living slot are, also among the run times: so long a slot is away. What packs cost is
    learnt only from those that were done in one go.
    """
    return max(0.0, min(record.untold(until) / 1e9, age))


def left_behind(
    record: Record, cause: Cause, jitter: float, served: Iterable[str] = (), *, died: int = 0, age: float = 0.0
) -> list[SettleDead]:
    """The settlements that a dead slot needs: its pack, exactly; the requests that may still be under way; and, in the
    other sources that it served, that it waits no more.

    ``died`` (ns since boot), ``age`` (seconds): what it worked is booked, but not for what goes back and is not counted
    as finished: a fleet that is stopped fast is no sign that tasks have become longer.
    """
    holder, asked, held = record.text("holder"), record.words[Field.ASKED], record.words[Field.HELD]
    if not holder or not asked:
        return []
    letters = []
    if held:
        marks = bytes(record.marks[: record.words[Field.SIZE]])
        ran = running(record, marks)
        outcomes: dict[int, Outcome] = {}
        as_pack = record.words[Field.TASK] == WHOLE_PACK and marks.count(0) < len(marks) - 1
        if len(ran) > 1 or as_pack:  # the others of a whole pack may be done already, and have run with this one
            outcomes = {position: Outcome("loss", f"the slot that ran it {cause.text}") for position in ran}
        elif cause.own:
            outcomes = {position: charge(record, cause, jitter) for position in ran}
        is_charged = any(outcome.kind == "crash" for outcome in outcomes.values())
        until = died if is_charged or not ran else min(died, record.words[Field.START])
        letters.append(
            SettleDead(
                record.text("held_source"), holder, held, asked, outcomes, marks, "back", cause.text,
                charged(record, outcomes), worked(record, until=until, age=age),
            )
        )  # fmt: skip
    # What was asked last on each source; a source with a request in doubt was asked nothing after it.
    unseen = dict.fromkeys(served, asked) | {record.text("asked_source"): asked} | record.doubts()
    for letter in letters:
        unseen.pop(letter.source, None)
    return letters + [
        SettleDead(source, holder, None, unseen[source], {}, b"", "back", cause.text) for source in sorted(unseen)
    ]


def running(record: Record, marks: bytes) -> list[int]:
    """The positions of the tasks that ran: all that are marked so, else the one that stands there."""
    several = [position for position, mark in enumerate(marks, 1) if mark == RUNS]
    task = record.words[Field.TASK]
    return several or ([task] if 0 < task <= len(marks) and not marks[task - 1] else [])


def charged(record: Record, outcomes: dict[int, Outcome]) -> str:
    """The id of the task that is charged with a crash, "" for none."""
    shown = 1 if record.words[Field.TASK] == WHOLE_PACK else record.words[Field.TASK]
    return record.text("task") if shown in outcomes and outcomes[shown].kind == "crash" else ""


def told(handler: str, letter: SettleDead, fate: Charged) -> str:
    """What has become of a task that was charged, in words for the log."""
    times, [limit] = fate.crashes, {outcome.limit for outcome in letter.outcomes.values()}
    after = f"is buried after {times} crash{'es' if times > 1 else ''}"
    what = after if fate.is_buried else f"has crashed, {times} of {limit}"
    return f"{handler} {letter.charged} {what}: the slot that ran it {letter.why}"


def charge(record: Record, cause: Cause, jitter: float) -> Outcome:
    """A crash, to be backed off and limited as the task's handler says."""
    words = record.words
    return Outcome(
        "crash",
        f"the slot that ran it {cause.text}",
        limit=max(1, words[Field.MAX_CRASHES]),
        base=float(words[Field.BACKOFF_FIRST]),
        cap=float(words[Field.BACKOFF_LONGEST]),
        jitter=jitter,
    )
