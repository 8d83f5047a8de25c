"""Runs a pack whose handler has all its tasks at once (``list[Task]``), and says of each how it ends."""

from .cascades import NO_CASCADE, Cascade
from .errors import ArgumentsError
from .outcomes import Outcome, decided, micros, told
from .records import body
from .running import RUNNING
from .scoreboard import WHOLE_PACK, Field, boot_ns
from .tasks import Task
from .work import PackRun, briefly, end_if_forked, jitter, log


def run_together(run: PackRun) -> int:
    """How many tasks have ended and are marked: all of them, or none."""
    if not run.may_go_on(boot_ns()):
        return 0
    tasks, outcomes = readable(run)
    if tasks:
        begin(run, next(iter(tasks.values())))
        try:
            run.function(list(tasks.values()))
        except BaseException as error:
            end_if_forked()
            blame(run, error, list(tasks.values()))
        end_if_forked()
        run.record.over()
        outcomes |= {position: task.outcome for position, task in tasks.items() if task.outcome}
    return settled(run, outcomes, cascade_of(run, tasks, outcomes))


def cascade_of(run: PackRun, tasks: dict[int, Task], outcomes: dict[int, Outcome]) -> Cascade:
    """What the handler has enqueued with the settlement of the pack. All that is done then ends together with it, so
    it is added to ``outcomes``; if nothing is done, nothing is sent.
    """
    done = [position for position in tasks if position not in outcomes] if RUNNING.kept is not None else []
    outcomes |= {position: run.done() for position in done}
    return RUNNING.left_by(done[0]) if done else NO_CASCADE


def begin(run: PackRun, first: Task) -> None:
    """The pack begins; its first task stands for it."""
    now = boot_ns()
    RUNNING.begin(first.id)
    run.record.begin(WHOLE_PACK, now, now + run.limit if run.limit else 0, run.pack.ids[0])


def settled(run: PackRun, outcomes: dict[int, Outcome], cascade: Cascade) -> int:
    """Marks the whole pack, once the queue server has stored what ended other than well."""
    if outcomes and not run.report(outcomes, {}, cascade):
        return 0
    size = len(run.pack.ids)
    run.record.marks[:size] = b"\1" * size
    run.record.words[Field.DONE] += size
    return size


def blame(run: PackRun, error: BaseException, tasks: list[Task]) -> None:
    """The handler raised: who is to blame is only known of a task that was alone; the others come narrower."""
    log.warning("%s raised on a pack of %d: %s", run.handler.name, len(tasks), briefly(error))
    options = run.handler.options
    for task in tasks:
        if task.outcome is not None:
            continue
        if len(tasks) == 1:
            task.outcome = decided(error, options, jitter())
        else:
            task.outcome = Outcome("loss", told(error), delay=micros(options.backoff.first * jitter()))


def readable(run: PackRun) -> tuple[dict[int, Task], dict[int, Outcome]]:
    """By position the tasks that can be given to the handler, and what becomes of the others."""
    tasks: dict[int, Task] = {}
    refused: dict[int, Outcome] = {}
    for position, stored in enumerate(run.pack.records, 1):
        try:
            args, kwargs = run.handler.arguments.call(body(stored))
        except (ArgumentsError, ValueError) as error:
            refused[position] = run.misfit(position, error)
            continue
        tasks[position] = run.made(position, args, kwargs)
    return tasks, refused
