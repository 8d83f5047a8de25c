"""Runs the tasks of a pack one after another: the hot loop of a slot. What is looked up once is looked up before it."""

from .cascades import NO_CASCADE
from .errors import ArgumentsError
from .outcomes import Outcome
from .queueserver import Kept
from .records import body
from .running import RUNNING
from .scoreboard import Field, boot_ns
from .work import TERM, PackRun, end_if_forked


def run_each(run: PackRun) -> int:
    """How many tasks, from the first on, have ended and are marked."""
    record, limit, kept = run.record, run.limit, dict[int, Kept]()
    words, marks = record.words, record.marks
    done, trusted, now = words[Field.DONE], 0, boot_ns()
    for position, (task_id, stored) in enumerate(zip(run.pack.ids, run.pack.records, strict=True), 1):
        if now >= trusted or TERM.asked:
            if not run.may_go_on(now):
                return position - 1
            trusted = record.trusted_until()
        record.begin(position, now, now + limit if limit else 0, task_id)
        RUNNING.begin(task_id.decode(errors="replace"))
        outcome = attempt(run, position, stored, kept)
        if outcome is not None:
            record.over()
            left = RUNNING.left_by(position) if outcome.kind == "done" else NO_CASCADE
            if not run.report({position: outcome}, kept, left):
                return position - 1
            kept.clear()
        marks[position - 1] = 1
        words[Field.DONE] = done = done + 1
        now = boot_ns()
    return len(run.pack.ids)


def attempt(run: PackRun, position: int, stored: bytes, kept: dict[int, Kept]) -> Outcome | None:
    """Runs one task; None is success, and nothing to be told. What its handler has returned is added to ``kept``."""
    handler = run.handler
    try:
        args, kwargs = handler.arguments.call(body(stored))
    except (ArgumentsError, ValueError) as error:
        return run.misfit(position, error)
    try:
        value = handler.function(*args, **kwargs)
    except BaseException as error:
        end_if_forked()
        return run.raised(position, error)
    end_if_forked()
    seconds = handler.options.keep_result
    if seconds is not None:
        kept[position] = run.result(position, value, seconds)
    elif RUNNING.kept is None:
        return None
    return run.done()
