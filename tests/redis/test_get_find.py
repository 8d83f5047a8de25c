"""Looking at tasks: every state and field, and finding them page by page while they come and go."""

import itertools
from collections.abc import Callable

import msgspec
import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put

from qslots import Owner, Queue, QueueServerError, TaskState, task
from qslots.control import Control
from qslots.errors import Error
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queries import TaskInfo, arguments_of
from qslots.queueserver import QueueServer
from qslots.records import formed, header
from qslots.reports import Declared, Report, SlotReport
from qslots.results import kept

queue = Queue(QUEUE)
FAIL = Outcome("fail", "why", limit=9, base=1e9, cap=1e9)


def pack(*names: str) -> bytes:
    return msgspec.msgpack.encode(dict.fromkeys(names, 1))


def took(server: QueueServer, *names: str, name: str = "web/3/inc") -> Holder:
    put(server, *names)
    slot = Holder(server, name)
    assert slot.work() == list(names)
    return slot


def new(server: QueueServer) -> None:
    put(server, "a", when="+9000000000")


def enqueued(server: QueueServer) -> None:
    put(server, "a")


def claimed(server: QueueServer) -> None:
    took(server, "a", "b")


def processing(server: QueueServer) -> None:
    took(server, "a")


def failed(server: QueueServer) -> None:
    took(server, "a").settle({1: FAIL})


def buried(server: QueueServer) -> None:
    took(server, "a").settle({1: Outcome("bury", "hopeless")})


def finished(server: QueueServer) -> None:
    took(server, "a").settle({1: Outcome("done")}, results={1: kept("a", HANDLER, "web/3/inc", [1, {"x": 2}], 60.0)})


STATES: list[tuple[Callable[[QueueServer], None], TaskState, dict[str, object]]] = [
    (new, TaskState.NEW, {"locked": False, "owner": None, "last_error": ""}),
    (enqueued, TaskState.ENQUEUED, {"locked": False, "owner": None, "retries": 0}),
    (claimed, TaskState.CLAIMED, {"locked": True, "owner": Owner("web", 3), "due_at": None}),
    (processing, TaskState.PROCESSING, {"locked": True, "owner": Owner("web", 3), "due_at": None}),
    (failed, TaskState.RETRIABLE_FAILURE, {"retries": 1, "failures": 1, "last_error": "why", "owner": None}),
    (buried, TaskState.FATAL_FAILURE, {"last_error": "hopeless", "due_at": None, "locked": False}),
    (finished, TaskState.SUCCESS, {"result": [1, {"x": 2}], "owner": Owner("web", 3), "put_at": None}),
]


@pytest.mark.parametrize(("arrange", "state", "fields"), STATES, ids=lambda each: getattr(each, "__name__", None))
def test_task_is_shown_in_its_state(
    app: QueueServer, arrange: Callable[[QueueServer], None], state: TaskState, fields: dict[str, object]
) -> None:
    arrange(app)
    info = queue.get("a")
    assert info is not None
    assert info.state is state
    assert {name: getattr(info, name) for name in fields} == fields
    assert (info.id, info.queue, info.handler, info.server) == ("a", QUEUE, HANDLER, "main")
    if state is TaskState.SUCCESS:
        assert abs((info.finished_at or 0) - micros_now(app) / 1e6) < 5
        with pytest.raises(Error, match="what is done is deleted"):
            list(queue.find(state=state))
    else:
        assert [each.id for each in queue.find(state=state)][:1] == ["a"]
        assert abs((info.put_at or 0) - micros_now(app) / 1e6) < 5


@pytest.mark.parametrize(("arrange", "state", "fields"), STATES[:6], ids=lambda each: getattr(each, "__name__", None))
def test_find_gives_a_task_in_its_own_state_only(
    app: QueueServer, arrange: Callable[[QueueServer], None], state: TaskState, fields: dict[str, object]
) -> None:
    arrange(app)
    for asked in set(TaskState) - {TaskState.SUCCESS}:
        found = {each.id: each for each in queue.find(state=asked)}
        assert ("a" in found) == (asked is state)
    everything = {each.id: each for each in queue.find()}
    assert {name: getattr(everything["a"], name) for name in fields} == fields


def test_unknown_task_is_none(app: QueueServer) -> None:
    put(app, "b")
    assert queue.get("a") is None
    assert Queue("never").get("a") is None


def test_activation_time_is_told_in_seconds_of_the_servers_clock(app: QueueServer) -> None:
    put(app, "a", when="1234567890123456")
    assert (queue.get("a") or pytest.fail("gone")).due_at == 1234567890.123456


def test_what_runs_of_a_pack_is_known_from_the_masters_report(app: QueueServer) -> None:
    took(app, "a", "b")
    control = Control(app)
    control.take_over("web", "", "i", gone_after=9)
    slot = SlotReport(index=3, pid=1, generation=1, state="busy", queues=(QUEUE,), task="b")
    report = Report(
        server="web", incarnation="i", host="h", pid=1, generation=1, declared="", budget=1, max_slots=1, pss=1,
        free_memory=1, slot_size=1, slot_sizes={}, epoch=0, seq=0, slots=(slot,),
    )  # fmt: skip
    control.report(report, Declared(()))
    assert {each.id: each.state for each in queue.find()} == {"a": TaskState.CLAIMED, "b": TaskState.PROCESSING}


def test_ad_hoc_consumer_is_an_owner_without_a_slot(app: QueueServer) -> None:
    put(app, "a")
    with queue.take():
        info = queue.get("a")
        assert info is not None
        assert info.state is TaskState.PROCESSING
        assert info.owner is not None
        assert info.owner.slot is None


def test_wish_for_a_locked_task_is_shown(app: QueueServer) -> None:
    took(app, "a", "b")
    put(app, "a", own_ids=True, on_duplicate="rearm")
    queue.delete("b")
    assert {each.id: each.afterwards for each in queue.find()} == {"a": "rearm", "b": "gone"}


def test_parked_task_is_active_and_says_so(app: QueueServer) -> None:
    put(app, "a", collection="c")
    queue.pause("c")
    Holder(app, "s").take()
    info = queue.get("a")
    assert info is not None
    assert (info.state, info.parked, info.collection) == (TaskState.ENQUEUED, True, "c")
    assert [each.id for each in queue.find(state=TaskState.ENQUEUED)] == ["a"]


def test_arguments_are_shown_as_they_were_given(app: QueueServer) -> None:
    @task(queue=QUEUE)
    def resize(photo: str, size: int = 128) -> None:
        """Nothing."""

    @task(queue="packs")
    def index(tasks: list[object]) -> None:
        """Nothing."""

    made = resize.enqueue("å.jpg", size=64)
    info = queue.get(made.id)
    assert info is not None
    assert (info.args, info.kwargs) == ((), {"photo": "å.jpg", "size": 64})
    assert [each.id for each in queue.find(text="å.jpg")] == [made.id]
    assert list(queue.find(text="b.jpg")) == []
    assert app.handlers(QUEUE) == ["resize"]


GARBAGE = {
    "no header": b"x",
    "no arguments": b"\0" * 8 + header(HANDLER, 7),
    "unknown form": b"\0" * 8 + header(HANDLER, 7) + b"\x09abc",
    "not msgpack": b"\0" * 8 + header(HANDLER, 7) + b"\x01\xc1",
    "bottomless": b"\0" * 8 + header(HANDLER, 7) + formed(b"\x91" * 5000),
    "not text": b"\0" * 8 + header(HANDLER, 7) + formed(b"\x81\xa1a\xa2\xff\xff"),
    "cut off": b"\0" * 8 + header(HANDLER, 7) + b"\x02x\x9c",
    "another handler": b"\0" * 8 + header("nobody", 7) + formed(b"\x80"),
}


@pytest.mark.parametrize("record", GARBAGE.values(), ids=GARBAGE)
def test_unreadable_record_is_shown_where_it_is_and_can_be_deleted(app: QueueServer, record: bytes) -> None:
    put(app, "a", "b")
    app.redis.hset(app.keys_of(QUEUE).part("tasks"), "a", record)
    info = queue.get("a")
    assert info is not None
    assert (info.state, info.locked) == (TaskState.ENQUEUED, False)
    assert {each.id for each in queue.find()} == {"a", "b"}
    queue.move("a", 1.0)
    queue.bury("a", "unreadable")
    assert [each.last_error for each in queue.find(state=TaskState.FATAL_FAILURE)] == ["unreadable"]
    queue.delete("a")
    assert (queue.get("a"), queue.stats().tasks) == (None, 1)


def test_unreadable_buried_record_holds_up_no_kick_and_is_not_updated(app: QueueServer) -> None:
    put(app, "a", "b", "c")
    for name in "abc":
        queue.bury(name)
    app.redis.hset(app.keys_of(QUEUE).part("tasks"), "a", GARBAGE["no header"])
    assert queue.kick(count=1) == 0
    assert queue.kick(count=9) == 2
    assert {each.id for each in queue.find(state=TaskState.FATAL_FAILURE)} == {"a"}
    for change in (lambda: queue.kick("a"), lambda: queue.update("a", x=1)):
        with pytest.raises(QueueServerError, match=r"task a of queue q.* delete it"):
            change()


@pytest.mark.parametrize("key", [b"\xc4\x01a", b"\x92\x01\x02", b"\x01"], ids=["bytes", "pair", "number"])
def test_text_is_looked_for_in_arguments_whose_keys_are_not_for_json(app: QueueServer, key: bytes) -> None:
    put(app, "a", body=b"\x81\xa1m\x81" + key + b"\xa6needle")
    assert [each.id for each in queue.find(text="needle")] == ["a"]


def test_tasks_are_found_by_collection_and_text_up_to_a_limit(app: QueueServer) -> None:
    for name in "abcd":
        put(app, name, collection="even" if name in "bd" else "odd", body=pack(f"says_{name}"))
    assert [each.id for each in queue.find(state=TaskState.ENQUEUED, collection="even")] == ["b", "d"]
    assert [each.id for each in queue.find(text="says_c")] == ["c"]
    assert list(queue.find(text="says_c", collection="even")) == []
    assert [each.id for each in queue.find(state=TaskState.ENQUEUED, limit=3)] == ["a", "b", "c"]
    assert list(queue.find(limit=0)) == []


def test_waiting_tasks_come_in_the_order_of_their_time_handler_by_handler(app: QueueServer) -> None:
    now = micros_now(app)
    for n in range(250):
        put(app, f"{n:03}", when=str(now - 1000 * ((n * 77) % 250)), handler="hx"[n % 2])
    found = list(queue.find(state=TaskState.ENQUEUED))
    assert len(found) == 250
    for handler in "hx":
        times = [each.due_at or 0 for each in found if each.handler == handler]
        assert times == sorted(times)
    assert [each.handler for each in found] == sorted(each.handler for each in found)


def test_handler_and_collection_that_came_after_our_last_look_are_found_too(
    app: QueueServer, server: QueueServer
) -> None:
    put(app, "a")
    assert len(list(queue.find(state=TaskState.ENQUEUED))) == 1
    other = QueueServer(server.url, name="other")
    put(other, "b", handler="x")
    put(other, "c", collection="c")
    Inspector(other, QUEUE).pause("collection:c")
    assert Holder(other, "s").work() == ["a"]
    assert {each.id for each in queue.find(state=TaskState.ENQUEUED)} == {"b", "c"}
    other.close()


class Churn:
    """What comes and goes between two pages of a schedule."""

    def __init__(self, server: QueueServer) -> None:
        self.redis = server.redis
        self.key = server.keys_of(QUEUE).schedule(HANDLER)
        self.touched: set[str] = set()
        self.made = 0

    def leave(self, page: list[str]) -> None:
        self.touched |= set(page)
        self.redis.zrem(self.key, *page)

    def last_leaves(self, page: list[str]) -> None:
        self.leave(page[-1:])

    def page_leaves(self, page: list[str]) -> None:
        self.leave(page)

    def half_leaves(self, page: list[str]) -> None:
        self.leave(page[::-2])

    def last_goes_to_the_end(self, page: list[str]) -> None:
        self.touched.add(page[-1])
        self.redis.zadd(self.key, {page[-1]: 9e15})

    def last_goes_to_the_front(self, page: list[str]) -> None:
        self.touched.add(page[-1])
        self.redis.zadd(self.key, {page[-1]: 1})

    def others_come_before(self, page: list[str]) -> None:
        score = self.redis.zscore(self.key, page[0]) or 1
        self.made += 1
        self.redis.zadd(self.key, {f"!{self.made}-{n}": score for n in range(150)})


@pytest.mark.parametrize("ties", [True, False], ids=["ties", "distinct"])
@pytest.mark.parametrize("change", [
    "last_leaves", "page_leaves", "half_leaves", "last_goes_to_the_end", "last_goes_to_the_front", "others_come_before",
])  # fmt: skip
def test_what_is_there_all_the_time_is_given_once_whatever_comes_and_goes(
    app: QueueServer, change: str, ties: bool
) -> None:
    names = [f"{'aB-é'[n % 4]}{n:04}" for n in range(1000)]
    churn = Churn(app)
    put(app, "first")
    app.redis.zadd(churn.key, {name: 1e15 if ties else 1e15 + n // 3 for n, name in enumerate(names)})
    seen: list[str] = []
    for page in Inspector(app, QUEUE).scheduled():
        seen += page
        getattr(churn, change)(page)
    stayed = set(names) - churn.touched
    given = [name for name in seen if name in stayed]
    assert len(given) == len(set(given))
    assert set(given) == stayed


def test_buried_tasks_are_given_in_the_order_of_their_burial_while_they_are_kicked(app: QueueServer) -> None:
    put(app, *(f"{n:03}" for n in range(350)))
    slot = Holder(app, "s")
    slot.work(1000)
    for first in range(0, 350, 50):
        slot.settle({n + 1: Outcome("bury", "bad") for n in range(first, first + 50)})
    found = []
    for info in queue.find(state=TaskState.FATAL_FAILURE):
        found.append(info.id)
        if len(found) % 100 == 0:
            queue.kick(info.id)
    assert found == [f"{n:03}" for n in range(350)]


def calls(server: QueueServer) -> int:
    return int(server.redis.info("stats")["total_commands_processed"])  # type: ignore[index]


def test_ten_thousand_tasks_are_all_found_and_the_first_few_cost_few_calls(app: QueueServer) -> None:
    for first in range(0, 10_000, 1000):
        put(app, *(f"{n:05}" for n in range(first, first + 1000)))
    before = calls(app)
    some: list[TaskInfo] = list(itertools.islice(queue.find(state=TaskState.ENQUEUED), 5))
    assert [each.id for each in some] == [f"{n:05}" for n in range(5)]
    assert calls(app) - before < 1000  # each command inside a script counts
    assert {each.id for each in queue.find()} == {f"{n:05}" for n in range(10_000)}


def test_packs_of_many_slots_are_found_with_their_owners(app: QueueServer) -> None:
    put(app, *(f"{n:03}" for n in range(600)))
    slots = [Holder(app, f"web/{n}/i") for n in range(200)]
    expected = {name: Owner("web", n) for n, slot in enumerate(slots) for name in slot.work(3)}
    assert {each.id: each.owner for each in queue.find(state=TaskState.CLAIMED)} == {
        name: owner for name, owner in expected.items() if sum(1 for each in expected.values() if each == owner) > 1
    }
    assert {each.id: each.owner for each in queue.find() if each.locked} == expected


def test_arguments_too_deep_to_read_are_told_as_unreadable() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        arguments_of(GARBAGE["bottomless"])
