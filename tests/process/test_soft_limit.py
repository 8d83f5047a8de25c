"""The soft limit rings in the handler and nowhere else: real signals, a worker with a real record, no queue server."""

import logging
import os
import pathlib
import random
import select
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import qslots.tasks
from qslots import Retry, SoftTimeLimit, Task, UsageError, extend, task
from qslots.handlers import Registry
from qslots.limits import ALARM
from qslots.outcomes import Outcome
from qslots.queueserver import Pack
from qslots.records import formed, header
from qslots.running import RUNNING
from qslots.scoreboard import Field, Record, Scoreboard, boot_ns
from qslots.worker import Worker

SHORT = 0.001
FAR = 1 << 62


class Bench:
    """A worker, and what it has told of tasks that did not end well, by position."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.told: dict[int, Outcome] = {}
        self.worker = Worker(record, self.report, lambda _: True)

    def report(self, outcomes: dict[int, Outcome], *_: object) -> bool:
        assert not self.told.keys() & outcomes.keys(), "told twice"
        self.told |= outcomes
        return True

    def run(self, function: Callable[..., Any], *bodies: bytes, **options: Any) -> None:
        """A pack of these tasks, to its end."""
        self.told.clear()
        handler = task(name=f"h{random.getrandbits(60)}", queue="q", **options)(function).handler
        count = len(bodies)
        stored = [bytes(8) + header(handler.name, handler.arguments.signature) + formed(body) for body in bodies]
        pack = Pack(handler.name, [b"t%d" % n for n in range(count)], stored, [None] * count, 0.0, 0.0)
        self.record.hold(self.record.words[Field.HELD] + 1, b"q@main", handler.name.encode(), count)
        self.record.words[Field.LOCK_UNTIL] = FAR
        assert self.worker.run(handler, pack) == (count, True)
        assert bytes(self.record.marks[:count]) == b"\1" * count
        assert not ALARM.armed
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.fixture
def bench(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(qslots.tasks, "REGISTRY", Registry())
    board = Scoreboard.create(str(tmp_path / "board"))
    before = signal.getsignal(signal.SIGALRM)
    ALARM.listen()
    made = Bench(board.record(0))
    yield made
    made.worker.close()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    ALARM._at_rest = None
    os.close(board.descriptor)


def spin(until: float) -> None:
    while time.monotonic() < until:
        pass


EMPTY = b"\x80"


def test_thousands_of_tasks_that_end_around_their_limit_each_end_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "qslots.slot")
    ended: set[str] = set()

    def around() -> None:
        spin(time.monotonic() + SHORT - 200e-6 + random.random() * 250e-6)
        ended.add(str(RUNNING.parent))

    for _ in range(3):
        bench.run(around, *[EMPTY] * 1000, soft_time_limit=SHORT)
        late = {f"t{position - 1}" for position in bench.told}
        assert all(outcome.kind == "fail" and "SoftTimeLimit" in outcome.why for outcome in bench.told.values())
        assert {f"t{n}" for n in range(1000)} - late <= ended, "a task counts as done that was cut off"
        assert 0 < len(late) < 1000
        ended.clear()


def test_a_failure_at_the_limit_is_told_as_that_or_as_the_limit_and_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "qslots.slot")

    def around() -> None:
        spin(time.monotonic() + SHORT - 200e-6 + random.random() * 250e-6)
        raise Retry(1.0)

    bench.run(around, *[EMPTY] * 1000, soft_time_limit=SHORT)
    kinds = [outcome.kind for outcome in bench.told.values()]
    assert len(kinds) == 1000
    assert set(kinds) == {"fail", "retry"}


def test_soft_limit_is_raised_in_the_handler_whose_stack_is_logged_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def deep() -> None:
        select.select([], [], [], 30)

    def outer() -> None:
        deep()

    with caplog.at_level(logging.WARNING):
        bench.run(outer, EMPTY, soft_time_limit="50ms", max_failures=3)
    assert bench.told[1].kind == "fail"
    assert bench.told[1].limit == 3
    [record] = [each for each in caplog.records if "ran into its soft limit of 0.05 s" in each.message]
    assert "select.select([], [], [], 30)" in record.message
    assert record.message.index("in outer") < record.message.index("in deep")
    assert "_under_alarm" not in record.message


def test_a_handler_may_catch_it_tidy_up_and_has_succeeded(bench: Bench) -> None:
    tidied = []

    def careful() -> None:
        try:
            select.select([], [], [], 30)
        except SoftTimeLimit:
            spin(time.monotonic() + 0.1)  # longer than the limit: it comes once
            tidied.append(1)

    bench.run(careful, EMPTY, EMPTY, soft_time_limit="20ms")
    assert bench.told == {}
    assert tidied == [1, 1]


def test_never_retry_may_name_it(bench: Bench) -> None:
    def slow() -> None:
        select.select([], [], [], 30)

    bench.run(slow, EMPTY, soft_time_limit="20ms", never_retry=SoftTimeLimit)
    assert bench.told[1].kind == "bury"


def test_a_pack_handler_has_it_for_the_whole_call(bench: Bench) -> None:
    def whole(tasks: list[Task]) -> None:
        for _ in tasks:
            spin(time.monotonic() + 0.15)

    pack = [b"\x92\x90\x80"] * 4
    bench.run(whole, *pack, soft_time_limit="450ms")
    assert {outcome.kind for outcome in bench.told.values()} == {"loss"}
    bench.run(whole, *pack[:1], soft_time_limit="450ms")
    assert bench.told == {}


def test_extend_moves_both_limits_from_now_and_keeps_them_apart(bench: Bench) -> None:
    left = []

    def long() -> None:
        extend("400ms")
        left.append(bench.record.words[Field.DEADLINE] - boot_ns())
        spin(time.monotonic() + 0.15)

    bench.run(long, EMPTY, soft_time_limit="60ms", time_limit="100ms")
    assert bench.told == {}
    assert 0.42e9 < left.pop() <= 0.44e9
    bench.run(long, EMPTY, time_limit="100ms")
    assert 0.38e9 < left.pop() <= 0.4e9
    bench.run(long, EMPTY)
    assert left.pop() < 0, "who has no limit gets none"


def test_extend_may_shorten_the_soft_limit(bench: Bench) -> None:
    def short() -> None:
        extend(0.02)
        select.select([], [], [], 30)

    bench.run(short, EMPTY, soft_time_limit="1h")
    assert bench.told[1].kind == "fail"


@pytest.mark.parametrize("given", ["soon", -1, None])
def test_extend_refuses_what_is_no_time(given: Any) -> None:
    with pytest.raises(UsageError, match="extend"):
        extend(given)


def test_extend_outside_of_a_task_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="no task runs here"):
        extend(5)
    bench.run(lambda: None, EMPTY)
    with pytest.raises(UsageError, match="no task runs here"):
        extend(5)


def test_an_alarm_that_a_handler_leaves_behind_hits_nobody(bench: Bench) -> None:
    def leaves() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0.1)

    bench.run(leaves, EMPTY)
    os.kill(os.getpid(), signal.SIGALRM)  # as if it had come just then
    spin(time.monotonic() + 0.15)


def test_alert_hook_is_called_once_in_the_handler_and_cannot_harm_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, float]] = []

    def hook(task_id: str, seconds: float) -> None:
        heard.append((task_id, seconds))
        raise RuntimeError("in the hook")

    def slow() -> None:
        spin(time.monotonic() + 0.1)

    bench.record.words[Field.ALERT_AFTER] = 30_000_000
    bench.run(slow, EMPTY, on_alert=hook)
    assert bench.told == {}
    [(task_id, seconds)] = heard
    assert task_id == "t0"
    assert seconds >= 0.03
    assert "the hook on_alert raised" in caplog.text
    heard.clear()
    bench.run(slow, EMPTY, on_alert=hook, soft_time_limit="60ms")
    assert [bench.told[1].kind, len(heard)] == ["fail", 1]
