"""Runs the tasks of a pack one after another: the hot loop of a slot. What is looked up once is looked up before it."""

import inspect

from .cascades import NO_CASCADE
from .errors import ArgumentsError, HandlerError
from .forks import end_if_forked
from .handlers import Handler
from .limits import ALARM
from .outcomes import Outcome
from .queueserver import Kept
from .records import body
from .running import RUNNING
from .scoreboard import LOOK_UP, Field, boot_ns
from .work import TERM, PackRun


def run_each(run: PackRun) -> int:
    """How many tasks, from the first on, have ended and are marked."""
    record, limit, kept = run.record, run.limit, dict[int, Kept]()
    words, marks = record.words, record.marks
    one = attempt_watched if run.is_watched else attempt
    done, look_up, now = words[Field.DONE], 0, boot_ns()
    for position, (task_id, stored) in enumerate(zip(run.pack.ids, run.pack.records, strict=True), 1):
        if now >= look_up or TERM.asked:
            granted = may_begin(run, position, task_id)
            if granted is None:
                return position - 1
            look_up, now = granted, boot_ns()
        record.begin(position, now, now + limit if limit else 0, task_id)
        RUNNING.begin(task_id.decode(errors="replace"))
        outcome = one(run, position, stored, kept)
        if outcome is not None:
            record.over()
            left = RUNNING.left_by(position) if outcome.kind == "done" else NO_CASCADE
            if not run.report({position: outcome}, kept, left):
                return position - 1
            kept.clear()
            if run.misfits.is_too_long:
                look_up = 0
        marks[position - 1] = 1
        words[Field.DONE] = done = done + 1
        now = boot_ns()
    return len(run.pack.ids)


def may_begin(run: PackRun, position: int, task_id: bytes) -> int | None:
    """Until when tasks may begin without looking up again (ns since boot); None if this one may not.

    A master that wants the pack to end after the last task writes STOP_AFTER first and then looks where the slot is;
    the slot writes first where it is and then reads STOP_AFTER. So one of them sees the other, however long either is
    held up between. The master does so only for a task older than LOOK_UP, after which a slot looks up in any case.
    """
    record = run.record
    record.over()
    ALARM.calm()
    if not run.may_go_on(boot_ns()):
        return None
    now = boot_ns()
    if position > 1:
        record.begin(position, now, 0, task_id)
        if record.stops_after(position - 1):
            return None
    return min(record.trusted_until(), now + LOOK_UP)


def attempt(run: PackRun, position: int, stored: bytes, kept: dict[int, Kept]) -> Outcome | None:
    """Runs one task; None is success, and nothing to be told. What its handler has returned is added to ``kept``."""
    handler = run.handler
    try:
        args, kwargs = handler.arguments.call(body(stored))
    except (ArgumentsError, ValueError) as error:
        return run.misfit(position, error)
    try:
        value = run.function(*args, **kwargs)
        if value is not None:
            refuse_coroutine(handler, value)
    except BaseException as error:
        return run.raised(position, error)
    end_if_forked()
    seconds = handler.options.keep_result
    if seconds is not None:
        kept[position] = run.result(position, value, seconds)
    elif RUNNING.kept is None:
        return None
    return run.done()


def refuse_coroutine(handler: Handler, value: object) -> None:
    """A coroutine function that does not look like one: its tasks would be done without having run."""
    if inspect.iscoroutine(value):
        value.close()
        raise HandlerError(f"{handler.name} gave a coroutine, which runs nowhere: its decorators must keep async def")


def attempt_watched(run: PackRun, position: int, stored: bytes, kept: dict[int, Kept]) -> Outcome | None:
    """``attempt``, and whoever wants to know is told how it ended."""
    run.begins(position)
    outcome = attempt(run, position, stored, kept)
    run.ended(position, outcome)
    return outcome
