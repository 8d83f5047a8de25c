"""``qslots.testing`` as a test author meets it: looking, draining, claiming, on each server that this machine has."""

import asyncio
import dataclasses
import pathlib
import signal

import pytest

import qslots
from qslots import Bury, Postpone, Queue, ResultTimeout, Retry, Task, TaskState
from qslots.hooks import HOOKS
from qslots.testing import DrainLimit, Queues


@dataclasses.dataclass
class Place:
    city: str


def outcomes(q: Queues) -> list[str]:
    return [ran.outcome for ran in q.drain(raises=False)]


def test_a_session(q: Queues) -> None:
    sent = []

    @qslots.task(queue="mail")
    def send_mail(to: str) -> None:
        sent.append(to)

    send_mail.enqueue("ann")
    send_mail.using(delay="10m").enqueue("bob")
    assert [t.args for t in q.enqueued("mail")] == [("ann",), ("bob",)]
    assert [str(ran) for ran in q.drain()] == ["send_mail('ann') done"]
    assert sent == ["ann"]
    assert q.drain() == []
    q.advance("10m")
    assert [(ran.handler, ran.args, ran.error) for ran in q.drain()] == [("send_mail", ("bob",), None)]
    q.assert_nothing_enqueued()


def test_tasks_are_shown_with_the_arguments_that_they_were_put_with_in_the_types_of_their_handler(q: Queues) -> None:
    @qslots.task
    def visit(where: Place, how: str = "by train", *, often: int = 1) -> None: ...

    visit.enqueue(Place("Rome"))
    visit.enqueue(Place("Bern"), often=2)
    visit.enqueue(how="on foot", where=Place("Graz"))
    Queue("visit").put_many([{"a": 1}], handler="elsewhere")
    shown = [(t.args, t.kwargs) for t in q.enqueued(visit)]
    assert shown == [((Place("Rome"),), {}), ((Place("Bern"),), {"often": 2}), ((Place("Graz"), "on foot"), {})]
    assert [(t.handler, t.kwargs) for t in q.enqueued("visit")][3:] == [("elsewhere", {"a": 1})]


def test_what_a_handler_raises_is_settled_then_raised_and_what_has_not_begun_stays(q: Queues) -> None:
    @qslots.task
    def divide(by: int) -> float:
        return 1 / by

    for by in (1, 0, 2):
        divide.enqueue(by)
    with pytest.raises(ZeroDivisionError) as caught:
        q.drain()
    assert caught.traceback[-1].name == "divide"
    assert caught.value.__notes__ == ["raised in drain: divide(0) failed"]
    assert [(t.args, t.failures, t.losses) for t in q.enqueued()] == [((2,), 0, 0), ((0,), 1, 0)]
    assert [ran.args for ran in q.drain()] == [(2,)]


def test_failures_back_off_without_jitter_until_the_task_is_buried(q: Queues) -> None:
    @qslots.task(max_failures=3, backoff="10s..15s")
    def fail() -> None:
        raise OSError("no")

    q.freeze()
    t = fail.enqueue()
    [ran] = q.drain(raises=False)
    assert (ran.id, ran.outcome, type(ran.error)) == (t.id, "failed", OSError)
    q.assert_enqueued(fail.using(delay="10s"))
    q.advance("9s")
    assert q.drain() == []
    q.advance("1s")
    assert outcomes(q) == ["failed"]
    q.advance("15s")
    assert outcomes(q) == ["buried"]
    [buried] = q.buried(fail)
    assert buried.last_error.endswith("OSError: no")
    assert pathlib.Path(__file__).name in buried.last_error.splitlines()[1]  # the first frame is the task's own
    assert q.get(t) == buried


@pytest.mark.parametrize(("wish", "outcome", "state"), [
    (Retry("5m"), "retry", TaskState.RETRIABLE_FAILURE),
    (Postpone(delay="5m"), "postponed", TaskState.NEW),
    (Bury("hopeless"), "buried", TaskState.FATAL_FAILURE),
])  # fmt: skip
def test_wishes_of_a_handler_are_no_errors(q: Queues, wish: Exception, outcome: str, state: TaskState) -> None:
    @qslots.task
    def decide() -> None:
        raise wish

    t = decide.enqueue()
    assert [ran.outcome for ran in q.drain()] == [outcome]
    found = q.get(t)
    assert found is not None
    assert (found.state, found.failures) == (state, 0)
    if found.due_at is not None:
        assert found.due_at == pytest.approx(q.now + 300, abs=2)


def test_not_now_waits_for_exactly_the_first_backoff(q: Queues) -> None:
    @qslots.task(backoff="5s..15m")
    def busy() -> None:
        raise Postpone

    busy.enqueue()
    assert outcomes(q) == ["postponed"]
    q.advance("4s")
    assert outcomes(q) == []
    q.advance("1s")
    assert outcomes(q) == ["postponed"]


def test_never_retry_buries_and_is_raised(q: Queues) -> None:
    @qslots.task(never_retry=KeyError)
    def look_up() -> None:
        raise KeyError("gone")

    look_up.enqueue()
    with pytest.raises(KeyError):
        q.drain()
    assert len(q.buried()) == 1


def test_a_pack_handler_gets_all_that_is_due_at_once(q: Queues) -> None:
    packs = []

    @qslots.task(batch=100)
    def index(tasks: list[Task]) -> None:
        packs.append([t.args[0] for t in tasks])
        for t in tasks[2:]:
            t.retry("1m") if t.args[0] == 2 else t.bury("odd")

    index.enqueue_many([(n,) for n in range(4)])
    assert [(ran.args, ran.outcome) for ran in q.drain()] == [
        ((0,), "done"), ((1,), "done"), ((2,), "retry"), ((3,), "buried")
    ]  # fmt: skip
    assert packs == [[0, 1, 2, 3]]


def test_a_pack_handler_that_raises_gets_the_tasks_again_in_smaller_packs(q: Queues) -> None:
    packs = []

    @qslots.task(batch=100, backoff="5s..1m")
    def index(tasks: list[Task]) -> None:
        packs.append(len(tasks))
        if len(tasks) > 1:
            raise ValueError(len(tasks))

    index.enqueue_many([(n,) for n in range(5)])
    with pytest.raises(ValueError, match="5"):
        q.drain()
    for _ in range(3):
        q.advance("5s")
        assert set(outcomes(q)) <= {"lost", "done"}
    assert packs == [5, 5, 2, 2, 1, 1, 1, 1, 1]
    q.assert_nothing_enqueued()


def test_a_cascade_runs_to_its_end_and_an_endless_one_is_refused(q: Queues) -> None:
    @qslots.task
    def count_down(n: int) -> None:
        if n:
            count_down.enqueue(n - 1)

    @qslots.task
    def again() -> None:
        raise Retry(0)

    count_down.enqueue(3)
    assert [ran.args for ran in q.drain()] == [(3,), (2,), (1,), (0,)]
    count_down.enqueue(3)
    assert len(q.drain(limit=4)) == 4
    again.enqueue()
    with pytest.raises(DrainLimit, match=r"has run 7 tasks and again of queue again is still due"):
        q.drain(limit=7)
    [waiting] = q.enqueued()
    assert (waiting.retries, waiting.state) == (7, TaskState.ENQUEUED)


def test_drain_may_be_of_a_queue_or_of_a_handler(q: Queues) -> None:
    @qslots.task(queue="mail")
    def send() -> None: ...
    @qslots.task(queue="mail")
    def receive() -> None: ...
    @qslots.task
    def other() -> None: ...

    for each in (send, receive, other):
        each.enqueue()
    assert [ran.handler for ran in q.drain(receive)] == ["receive"]
    assert [ran.handler for ran in q.drain("mail")] == ["send"]
    assert q.drain(Queue("mail")) == []
    assert [ran.handler for ran in q.drain()] == ["other"]
    with pytest.raises(qslots.Error, match="queue"):
        q.drain("no such:queue")


def test_tasks_of_handlers_that_are_not_imported_stay(q: Queues) -> None:
    Queue("q").put_many([{"a": 1}], handler="elsewhere")
    assert q.drain() == []
    assert len(q.enqueued("q")) == 1


def test_arguments_that_do_not_fit_are_an_error_of_the_test(q: Queues) -> None:
    Queue("work").put_many([{"n": "three"}])

    @qslots.task
    def work(n: int) -> None: ...

    with pytest.raises(qslots.ArgumentsError, match="argument n"):
        q.drain()
    assert [t.kwargs for t in q.enqueued()] == [{"n": "three"}]


@pytest.mark.parametrize("end", [KeyboardInterrupt, pytest.fail.Exception])
def test_the_end_of_the_test_itself_is_never_a_failure_of_the_task_alone(q: Queues, end: type[BaseException]) -> None:
    @qslots.task
    def stop() -> None:
        raise end("now")

    stop.enqueue()
    stop.enqueue()
    with pytest.raises(end):
        q.drain(raises=False)
    assert len(q.enqueued()) == 2


@pytest.mark.parametrize("presses", [1, 2])
def test_an_interrupt_ends_what_waits_in_the_event_loop_and_the_second_what_works(q: Queues, presses: int) -> None:
    usual = signal.getsignal(signal.SIGINT)

    @qslots.task(concurrency=1)
    async def work() -> None:
        for _ in range(presses):
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    work.enqueue()
    work.enqueue()
    with pytest.raises(KeyboardInterrupt):
        q.drain(raises=False)
    assert [t.failures for t in q.enqueued()] == [0, 1]
    assert signal.getsignal(signal.SIGINT) is usual


def test_a_soft_limit_acts_and_leaves_the_alarm_of_the_test_as_it_was(q: Queues) -> None:
    @qslots.task(soft_time_limit=0.02)
    def work() -> None:
        while True:
            pass

    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        mine = signal.getsignal(signal.SIGALRM)
        work.enqueue()
        with pytest.raises(qslots.SoftTimeLimit):
            q.drain()
        assert signal.getsignal(signal.SIGALRM) is mine
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] < 60
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_hooks_are_called_and_the_running_task_is_known(q: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(HOOKS, "after_task", [lambda task, outcome: seen.append((task.id, outcome))])

    @qslots.task
    def work() -> None:
        task = qslots.current_task()
        assert task is not None
        seen.append(task.id)

    t = work.enqueue()
    q.drain()
    assert seen == [t.id, (t.id, "done")]
    assert qslots.current_task() is None


def test_a_handler_must_not_drain(q: Queues) -> None:
    @qslots.task
    def drain() -> None:
        q.drain()

    drain.enqueue()
    with pytest.raises(qslots.UsageError, match="only the test may drain"):
        q.drain()
    assert outcomes(q) == []


def test_results_are_there_after_the_drain(q: Queues) -> None:
    @qslots.task(keep_result="10m")
    def add(a: int, b: int) -> int:
        return a + b

    t = add.enqueue(1, 2)
    for seconds in (None, 0.01):
        with pytest.raises(ResultTimeout, match=r"is not finished after .* s: in a test drain\(\) runs it$"):
            t.result(seconds)
    q.drain()
    assert t.result() == t.result(timeout=5) == 3
    found = q.get(t.id)
    assert found is not None
    assert (found.state, found.result) == (TaskState.SUCCESS, 3)
    q.advance("11m")
    assert q.get(t.id) is None


def test_tasks_of_an_async_handler_run_beside_each_other_in_one_loop_for_the_block(q: Queues) -> None:
    loops, here = set(), []

    @qslots.task(backoff="5s..1m")
    async def meet(n: int) -> None:
        loops.add(asyncio.get_running_loop())
        here.append(n)
        while len(here) % 3:
            await asyncio.sleep(0)
        if n == 1:
            raise ValueError(n)

    for _ in range(2):
        meet.enqueue_many([(n,) for n in range(3)])
        ran = q.drain(raises=False)
        assert [(each.args, each.outcome) for each in ran] == [((0,), "done"), ((1,), "failed"), ((2,), "done")]
    assert len(loops) == 1
    assert [str(each.error) for each in ran if each.error] == ["1"]
    q.assert_enqueued(meet.using(delay="5s"), 1)
    q.advance("5s")
    here.append(0)
    with pytest.raises(ValueError, match="1"):
        q.drain()


def test_a_test_that_has_an_event_loop_itself_may_drain_in_it_or_in_a_thread(q: Queues) -> None:
    @qslots.task
    def work() -> None: ...
    @qslots.task
    async def call() -> None:
        await asyncio.sleep(0)

    async def test() -> None:
        for each in (work, call):
            each.enqueue()
            assert len(q.drain()) == 1
            each.enqueue()
            assert len(await asyncio.to_thread(q.drain)) == 1

    asyncio.run(test())


def test_what_a_queue_says_of_its_durability_does_not_count_in_tests(q: Queues) -> None:
    @qslots.task(durability="replicated(2, 1s)")
    def work() -> None: ...

    work.enqueue()
    assert len(q.drain()) == 1


# The clock


def test_tasks_that_wait_for_success_come_with_it(q: Queues) -> None:
    ran: list[int] = []

    @qslots.task
    def child(n: int) -> None:
        ran.append(n)

    @qslots.task
    def parent(n: int) -> None:
        child.using(with_settlement=True).enqueue(n)
        if n == 1:
            raise Retry("1h")

    parent.enqueue_many([(0,), (1,), (2,)])
    q.drain()
    assert sorted(ran) == [0, 2]
