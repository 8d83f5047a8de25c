"""Runs the tasks of one pack and says how each ended. Everything it knows goes to the scoreboard as it happens.

A task is marked done only when nothing of it lives in this process alone: success at once; a failure, a retry, a
postponement after the queue server has stored it.
"""

import logging
import os
import random
import traceback
from collections.abc import Callable

from .errors import ArgumentsError
from .handlers import Handler, PackBody
from .outcomes import Outcome, charged, decided, micros, spoken, told
from .queueserver import Kept, Pack
from .records import Fate, body, head
from .results import kept
from .scoreboard import WHOLE_PACK, Field, Record, boot_ns
from .tasks import RUNNING, Task

log = logging.getLogger("qslots.slot")
LONGEST_LINE = 200  # characters of an error's text in the log; the whole of it is kept with the task
# Stores outcomes, and what is to be kept of tasks that are done, on the queue server; False: the lock is gone.
Report = Callable[[dict[int, Outcome], dict[int, Kept]], bool]
MayGoOn = Callable[[int], bool]  # whether another task may begin at this time (ns since boot)


def jitter() -> float:
    """0.85 to 1.15: what fails together shall not come back together."""
    return random.uniform(0.85, 1.15)


class Term:
    """What has happened to this process from outside while a handler ran: told to leave, or forked by the handler."""

    asked = False
    forked = False

    def watch(self) -> None:
        """From now on children forked of this process know that they are none of its kind."""
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        self.forked = True


TERM = Term()


class PackRun:
    """One pack under work."""

    def __init__(self, handler: Handler, pack: Pack, record: Record, report: Report, may_go_on: MayGoOn) -> None:
        self._handler = handler
        self._pack = pack
        self._record = record
        self._report = report
        self._may_go_on = may_go_on
        self._call = handler.arguments.call
        limit = handler.options.time_limit
        self._keep = handler.options.keep_result
        self._kept: dict[int, Kept] = {}
        self._limit = 0 if limit is None else int(limit * 1e9)
        record.words[Field.MAX_CRASHES] = handler.options.max_crashes
        record.words[Field.BACKOFF_FIRST] = int(micros(handler.options.backoff.first))
        record.words[Field.BACKOFF_LONGEST] = int(micros(handler.options.backoff.longest))

    def run(self) -> tuple[int, bool]:
        """Runs the pack; returns how many tasks began, and whether all are marked (else the rest must go back)."""
        began = self._run_whole() if self._handler.arguments.takes_pack else self._run_each()
        RUNNING.begin(None)
        self._record.end()
        return began, began == len(self._pack.ids)

    def _run_each(self) -> int:
        """The hot loop of a slot: what is looked up once is looked up here."""
        record, words, marks, limit = self._record, self._record.words, self._record.marks, self._limit
        done, trusted, now = words[Field.DONE], 0, boot_ns()
        for position, (task_id, stored) in enumerate(zip(self._pack.ids, self._pack.records, strict=True)):
            if now >= trusted or TERM.asked:
                if not self._may_go_on(now):
                    return position
                trusted = record.trusted_until()
            record.begin(position + 1, now, now + limit if limit else 0, task_id)
            outcome = self._attempt(position, task_id, stored)
            if outcome is not None:
                record.over()
                if not self._report({position + 1: outcome}, self._kept):
                    return position
                self._kept = {}
            marks[position] = 1
            words[Field.DONE] = done = done + 1
            now = boot_ns()
        return len(self._pack.ids)

    def _attempt(self, position: int, task_id: bytes, stored: bytes) -> Outcome | None:
        """Runs one task; None is success, and nothing to be told."""
        RUNNING.begin(task_id.decode(errors="replace"))
        try:
            args, kwargs = self._call(body(stored))
        except (ArgumentsError, ValueError) as error:
            return self._logged(position, unfit(self._handler, error, stored), error)
        try:
            value = self._handler.function(*args, **kwargs)
        except BaseException as error:
            self._end_if_forked()
            return self._logged(position, decided(error, self._handler.options, jitter()), error)
        self._end_if_forked()
        return None if self._keep is None else self._done_with(position, task_id, value, self._keep)

    def _done_with(self, position: int, task_id: bytes, value: object, seconds: float) -> Outcome:
        """Success whose result is to be on the queue server before the task is marked."""
        holder, task = self._record.text("holder"), task_id.decode(errors="replace")
        self._kept = {position + 1: kept(task, self._handler.name, holder, value, seconds)}
        return Outcome("done")

    @staticmethod
    def _end_if_forked() -> None:
        """A handler that forks and comes back in the child must not make a second slot of it."""
        if TERM.forked:
            os._exit(0)

    def _logged(self, position: int, outcome: Outcome, error: BaseException) -> Outcome:
        task_id = self._pack.ids[position].decode(errors="replace")
        wished = outcome.kind in ("retry", "postpone")
        what = happened(outcome, self._pack.fates[position] or Fate())
        log.log(
            logging.INFO if wished else logging.WARNING,
            "%s %s %s: %s",
            self._handler.name,
            task_id,
            what,
            briefly(error),
        )
        return outcome

    def _run_whole(self) -> int:
        handler, pack = self._handler, self._pack
        if not self._may_go_on(boot_ns()):
            return 0
        tasks, outcomes = self._decoded()
        positions = [position for position in range(1, len(pack.ids) + 1) if position not in outcomes]
        if tasks:
            now = boot_ns()
            RUNNING.begin(tasks[0].id)
            self._record.begin(WHOLE_PACK, now, now + self._limit if self._limit else 0, pack.ids[0])
            try:
                handler.function(tasks)
            except BaseException as error:
                self._end_if_forked()
                self._blame(error, tasks)
            self._end_if_forked()
            self._record.over()
            outcomes |= {at: task.outcome for at, task in zip(positions, tasks, strict=True) if task.outcome}
        if outcomes and not self._report(outcomes, {}):
            return 0
        size = len(pack.ids)
        self._record.marks[:size] = b"\1" * size
        self._record.words[Field.DONE] += size
        return size

    def _blame(self, error: BaseException, tasks: list[Task]) -> None:
        """A pack handler raised: who is to blame is only known of a task that was alone; the others come narrower."""
        log.warning("%s raised on a pack of %d: %s", self._handler.name, len(tasks), briefly(error))
        options = self._handler.options
        for task in tasks:
            if task.outcome is not None:
                continue
            if len(tasks) == 1:
                task.outcome = decided(error, options, jitter())
            else:
                task.outcome = Outcome("loss", told(error), delay=micros(options.backoff.first * jitter()))

    def _decoded(self) -> tuple[list[Task], dict[int, Outcome]]:
        tasks: list[Task] = []
        refused: dict[int, Outcome] = {}
        handler = self._handler
        for position, (raw_id, stored, fate) in enumerate(
            zip(self._pack.ids, self._pack.records, self._pack.fates, strict=True), 1
        ):
            try:
                values = handler.arguments.decode(body(stored))
            except (ArgumentsError, ValueError) as error:
                refused[position] = self._logged(position - 1, unfit(handler, error, stored), error)
                continue
            assert isinstance(values, PackBody)
            known = fate or Fate()
            tasks.append(
                Task(raw_id.decode(errors="replace"), handler.queue, handler.name, values.args, values.kwargs,
                     retries=known.retries, failures=known.failures)
            )  # fmt: skip
        return tasks, refused


def happened(outcome: Outcome, fate: Fate) -> str:
    """What becomes of a task, in words for the log."""
    failures = fate.failures + 1
    match outcome.kind:
        case "fail" if failures >= outcome.limit:
            return f"is buried after {failures} failure{'s' if failures > 1 else ''}"
        case "fail":
            return f"has failed, {failures} of {outcome.limit}"
        case "bury":
            return "is buried"
        case "retry":
            return "is to be run again"
    return "is postponed"


def briefly(error: BaseException) -> str:
    """An error on one line: its kind, its first line, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {(spoken(error).splitlines() or [''])[0][:LONGEST_LINE]}{place}"


def unfit(handler: Handler, error: Exception, stored: bytes) -> Outcome:
    """A record that cannot be read, or arguments that do not fit.

    Hopeless if this very code stored them; else another version is being rolled out, and a later attempt may fit.
    """
    if not isinstance(error, ArgumentsError):
        return Outcome("bury", f"the record cannot be read: {error}")
    why = str(handler.misfit(error))
    try:
        hopeless = head(stored).signature == handler.arguments.signature
    except ValueError as fault:
        return Outcome("bury", f"the record cannot be read: {fault}")
    if hopeless:
        return Outcome("bury", why)
    return charged("fail", why, handler.options.max_failures, handler.options.backoff, jitter())
