"""Runs a pack whose handler has all its tasks at once (``list[Task]``), and says of each how it ends."""

from collections.abc import Callable, Iterable
from functools import partial

from .cascades import NO_CASCADE, Cascade
from .errors import ArgumentsError
from .eventloop import EventLoop
from .forks import end_if_forked
from .hooks import HOOKS
from .outcomes import Bury, Outcome, decided, micros, put_off, told
from .records import body
from .running import RUNNING, Running
from .scoreboard import DONE, RUNS, WHOLE_PACK, Field, boot_ns
from .tasks import Task
from .work import PackRun, at_fault, briefly, jitter, log


def run_together(run: PackRun, loop: Callable[[], EventLoop]) -> int:
    """How many tasks have ended and are marked: all of them, or none."""
    if not run.may_go_on(boot_ns()):
        return 0
    tasks, outcomes = readable(run)
    cascade = NO_CASCADE
    if HOOKS.before_task:
        outcomes |= stopped_by_hooks(run, tasks)
    if tasks:
        running = Running.beside_others(run.id_of(next(iter(tasks))), run, 0) if run.handler.is_async else RUNNING
        begin(run, tasks)
        error = called(run, list(tasks.values()), running, loop)
        end_if_forked()
        if error is not None:
            blame(run, error, tasks)
        run.record.over()
        for position, task in tasks.items():
            if task.outcome is not None and task.outcome.kind == "bury" and error is None:
                run.failed(position, task.outcome, Bury(task.outcome.why))
        backoff = run.handler.options.backoff
        outcomes |= {at: put_off(task.outcome, backoff, jitter()) for at, task in tasks.items() if task.outcome}
        cascade = left(run, running, tasks, outcomes)
    if run.is_watched:
        for position in range(1, len(run.pack.ids) + 1):
            run.ended(position, outcomes.get(position))
    return settled(run, outcomes, cascade)


def left(run: PackRun, running: Running, tasks: Iterable[int], outcomes: dict[int, Outcome]) -> Cascade:
    """What the handler has enqueued with the settlement of the pack. All that is done ends in one request with it, so
    it is added to ``outcomes``; if nothing is done, nothing is sent.
    """
    done = [position for position in tasks if position not in outcomes] if running.kept is not None else []
    outcomes |= {position: run.done() for position in done}
    return running.left_by(done[0]) if done else NO_CASCADE


def begin(run: PackRun, tasks: Iterable[int]) -> None:
    """The tasks of these positions begin, all at once; the first stands for them."""
    for position in tasks if run.is_watched else ():
        run.begins(position)
    now = boot_ns()
    RUNNING.begin(run.id_of(next(iter(tasks))))
    for position in tasks:
        run.record.marks[position - 1] = RUNS
    run.record.begin(WHOLE_PACK, now, now + run.limit if run.limit else 0, run.pack.ids[0])


def called(run: PackRun, tasks: list[Task], running: Running, loop: Callable[[], EventLoop]) -> BaseException | None:
    """What the handler has raised."""
    handler = run.handler
    if handler.is_async:
        return loop().finish(handler.name, partial(run.coroutine, running, tasks), running)
    try:
        run.function(tasks)
    except BaseException as error:
        return error
    return None


def settled(run: PackRun, outcomes: dict[int, Outcome], cascade: Cascade) -> int:
    """Marks the whole pack: what ended well at once, the rest when the queue server has stored how it ended."""
    size = len(run.pack.ids)
    for position in set(range(1, size + 1)) - outcomes.keys():
        run.record.marks[position - 1] = DONE
    if outcomes and not run.report(outcomes, {}, cascade):
        return 0
    run.record.marks[:size] = bytes([DONE]) * size
    run.record.words[Field.DONE] += size
    return size


def stopped_by_hooks(run: PackRun, tasks: dict[int, Task]) -> dict[int, Outcome]:
    """Takes out of ``tasks`` those that a hook does not let run, and says what becomes of them."""
    stopped: dict[int, Outcome] = {}
    for position, task in tasks.items():
        try:
            HOOKS.begin(task)
        except BaseException as error:
            stopped[position] = run.raised(position, error)
        end_if_forked()
    for position in stopped:
        del tasks[position]
    return stopped


def blame(run: PackRun, error: BaseException, tasks: dict[int, Task]) -> None:
    """The handler raised: who is to blame is only known of a task that was alone; the others come narrower."""
    options = run.handler.options
    log.warning(
        "%s raised on a pack of %d (%s): %s",
        run.handler.name, len(tasks), run.several(tasks), briefly(error), exc_info=at_fault(error),
    )  # fmt: skip
    for position, task in tasks.items():
        if task.outcome is not None:
            continue
        run.witness(position, error)
        if len(tasks) == 1:
            task.outcome = decided(error, options, jitter())
            run.failed(position, task.outcome, error)
        else:
            task.outcome = Outcome("loss", told(error), delay=micros(options.backoff.first * jitter()))


def readable(run: PackRun) -> tuple[dict[int, Task], dict[int, Outcome]]:
    """By position the tasks that can be given to the handler, and what becomes of the others."""
    tasks: dict[int, Task] = {}
    refused: dict[int, Outcome] = {}
    for position, stored in enumerate(run.pack.records, 1):
        if run.misfits.is_too_long:
            refused[position] = Outcome("back")
            continue
        try:
            args, kwargs = run.handler.arguments.call(body(stored))
        except (ArgumentsError, ValueError) as error:
            refused[position] = run.misfit(position, error)
            continue
        tasks[position] = run.made(position, args, kwargs)
    return tasks, refused
