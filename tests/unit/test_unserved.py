"""Tasks of handlers that nobody knows are told of and counted apart, and ask for no slot."""

from qmanager.planning.planner import Memory, PlanResult, plan
from qmanager.planning.unserved import in_words, servable, unserved
from qslots.reports import Declared, HandlerDeclared, HandlerStats, QueueDeclared, QueueStats, Report, merged


def counted(*handlers: HandlerStats, **fields: object) -> QueueStats:
    active = sum(each.active for each in handlers)
    given = {"active": active, "takeable": active, "oldest": max(each.oldest for each in handlers), **fields}
    return QueueStats("mail", 1000.0, handlers=handlers, **given)  # type: ignore[arg-type]


def planned(stats: QueueStats, *knowing: tuple[str, ...]) -> PlanResult:
    """The first plan of servers each of which knows these handlers of the queue."""
    declared = [Declared((QueueDeclared("mail", handlers=tuple(map(HandlerDeclared, names))),)) for names in knowing]
    reports = [
        Report(
            server=f"s{n}", incarnation="i", host="h", pid=1, generation=1, declared=each.digest(), budget=400, pss=0,
            max_slots=4, free_memory=0, slot_size=100, slot_sizes={}, epoch=1, seq=1,
        )
        for n, each in enumerate(declared)
    ]  # fmt: skip
    return plan(
        declared={each.digest(): each for each in declared}, stats={"mail": stats}, reports=reports, current={},
        now=1000.0, memory=Memory(),
    )  # fmt: skip


NEWER = HandlerStats("newer", active=9, inactive=3, oldest=99.0)
SEND = HandlerStats("send", active=2, oldest=1.0)


def test_what_waits_for_a_handler_that_nobody_knows_is_counted_apart() -> None:
    stats = counted(SEND, NEWER, HandlerStats("gone"))
    assert unserved(stats, {"send"}) == {"newer": 12}
    assert unserved(stats, {"send", "newer"}) == {}
    assert in_words({"newer": 1200, "b": 1}) == (
        "1 task of handler b waits, no server knows it, 1,200 tasks of handler newer wait, no server knows it"
    )
    assert in_words({}) == ""


def test_only_what_somebody_knows_and_nobody_holds_back_can_be_served() -> None:
    fitting = servable(counted(SEND, NEWER), {"send"})
    assert (fitting.takeable, fitting.oldest, fitting.active) == (2, 1.0, 11)
    paused = HandlerStats("paused", active=5, oldest=50.0, open=False)
    assert servable(counted(SEND, paused, takeable=2), {"send", "paused"}).oldest == 1.0
    assert servable(counted(SEND, takeable=1), {"send"}).takeable == 1  # the rate allows no more
    assert servable(counted(SEND, NEWER), ()).takeable == 0


def test_no_slot_is_wanted_for_them_and_the_reason_tells() -> None:
    [mail] = planned(counted(NEWER), ("send",)).queues
    assert mail.wanted == 0
    assert mail.reason.startswith("nothing to do; 12 tasks of handler newer wait, no server knows it")


def test_handler_that_any_living_generation_knows_is_served() -> None:
    for knowing in ((("send", "newer"),), (("send",), ("newer",))):
        [mail] = planned(counted(NEWER), *knowing).queues
        assert mail.wanted == 1
        assert "no server knows" not in mail.reason


def test_counts_of_a_handler_on_several_servers_add_up() -> None:
    there = counted(HandlerStats("newer", active=1, oldest=120.0, open=False))
    assert merged([counted(SEND, NEWER), there]).handlers == (
        HandlerStats("newer", active=10, inactive=3, oldest=120.0, open=True), SEND,
    )  # fmt: skip
