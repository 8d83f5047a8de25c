"""Registration, reports, epochs and the slot map: one master a name, one manager a map, late ones refused."""

import msgspec
import pytest
from support.holder import micros_now

from qslots import keys
from qslots.control import Control
from qslots.errors import QueueServerError
from qslots.queueserver import QueueServer
from qslots.reports import Declared, MapRow, Orders, Plan, QueueDeclared, Report, pack


@pytest.fixture
def control(server: QueueServer) -> Control:
    return Control(server)


def report(incarnation: str = "i1", declared: str = "", server: str = "web", epoch: int = 0) -> Report:
    return Report(
        server=server, incarnation=incarnation, host="h", pid=1, generation=1, declared=declared, budget=1,
        max_slots=4, pss=1, free_memory=1, slot_size=1, slot_sizes={}, epoch=epoch, seq=1,
    )  # fmt: skip


def plan(manager: str, epoch: int, seq: int) -> Plan:
    return Plan(epoch, seq, manager, 0.0, ())


def row(epoch: int, seq: int, *queues: str) -> MapRow:
    return MapRow(epoch, seq, "m", tuple((queue,) for queue in queues))


def refusal(error: pytest.ExceptionInfo[QueueServerError]) -> str:
    return error.value.code


def test_second_master_of_a_name_is_refused_naming_the_first(control: Control) -> None:  # case 34
    control.take_over("web", "", "i1", gone_after=10)
    with pytest.raises(QueueServerError, match="i1") as error:
        control.take_over("web", "", "i2", gone_after=10)
    assert refusal(error) == "TAKEN"
    control.take_over("db", "", "i2", gone_after=10)


def test_registration_repeated_after_a_lost_reply_is_no_conflict(control: Control) -> None:
    for _ in range(2):
        control.take_over("web", "", "i1", gone_after=10)


def test_successor_on_the_same_machine_takes_over_at_once_and_one_elsewhere_does_not(control: Control) -> None:
    control.take_over("web", "here.", "here.1", gone_after=10)
    with pytest.raises(QueueServerError, match=r"here\.1"):
        control.take_over("web", "there.", "there.1", gone_after=10)
    control.take_over("web", "here.", "here.2", gone_after=10)
    with pytest.raises(QueueServerError) as error:
        control.report(report("here.1"), None)
    assert refusal(error) == "REPLACED"
    control.report(report("here.2"), None)


def test_master_that_was_silent_too_long_may_be_replaced(control: Control) -> None:
    control.take_over("web", "", "i1", gone_after=10)
    control.server.redis.zadd(keys.SEEN, {"web": micros_now(control.server) - 11_000_000})
    control.take_over("web", "", "i2", gone_after=10)


def test_a_server_that_has_lost_its_data_learns_its_masters_and_its_manager_again(control: Control) -> None:
    control.take_over("web", "", "i1", gone_after=10)
    epoch = control.take_epoch("m", 0, respect=3.0, take_over=False)
    control.server.redis.flushall()
    control.report(report(), None)
    control.publish(Plan(epoch, 7, "m", 0.0, ()), {}, [])
    assert set(control.reports()[0]) == {"web"}
    with pytest.raises(QueueServerError) as error:
        control.take_over("web", "", "i2", gone_after=10)
    assert refusal(error) == "TAKEN"
    with pytest.raises(QueueServerError) as error:
        control.publish(Plan(epoch - 1, 8, "other", 0.0, ()), {}, [])
    assert refusal(error) == "DEPOSED"


def test_report_of_a_master_that_was_replaced_is_refused_and_not_stored(control: Control) -> None:
    control.take_over("web", "", "i2", gone_after=10)
    with pytest.raises(QueueServerError) as error:
        control.report(report(), None)
    assert refusal(error) == "REPLACED"
    assert control.reports() == ({}, {}, [])


def test_report_is_read_back_with_its_age_by_the_servers_clock(control: Control) -> None:
    control.take_over("web", "", "i1", gone_after=10)
    assert control.report(report(), None)[:3] == (None, False, Orders())
    found, ages, unreadable = control.reports()
    assert found == {"web": report()}
    assert 0 <= ages["web"] < 2
    assert unreadable == []
    control.server.redis.hset(keys.REPORTS, "bad", b"\xc1")
    control.server.redis.hset(keys.REPORTS, "unseen", control.server.redis.hget(keys.REPORTS, "web") or b"")
    found, ages, unreadable = control.reports()
    assert unreadable == ["bad"]
    assert ages["unseen"] == float("inf")


def test_declaration_is_asked_for_until_it_is_stored(control: Control) -> None:
    declared = Declared((QueueDeclared("resize"),))
    digest = declared.digest()
    control.take_over("web", "", "i1", gone_after=10)
    assert control.report(report(declared=digest), None)[:3] == (None, True, Orders())
    assert control.report(report(declared=digest), declared)[:3] == (None, False, Orders())
    assert control.report(report(declared=digest), None)[:3] == (None, False, Orders())
    control.server.redis.hset(keys.DECLARED, "bad", b"\xc1")
    assert control.declared({digest, "", "unknown", "bad"}) == {digest: declared}
    assert control.declared({""}) == {}


def test_master_that_leaves_is_off_the_books_and_its_successor_is_not(control: Control) -> None:
    control.take_over("web", "", "i1", gone_after=10)
    control.report(report(), None)
    control.leave("web", "stranger")
    assert set(control.reports()[0]) == {"web"}
    control.leave("web", "i1")
    assert control.reports() == ({}, {}, [])
    control.take_over("web", "", "i2", gone_after=10)
    control.leave("web", "i1")
    control.report(report("i2"), None)


def test_each_manager_gets_a_higher_epoch(control: Control) -> None:
    first = control.take_epoch("m1", 0, respect=3, take_over=False)
    second = control.take_epoch("m2", 0, respect=3, take_over=True)
    assert second > first >= micros_now(control.server) // 1000 - 5000
    assert control.take_epoch("m3", second + 10**9, respect=3, take_over=True) == second + 10**9 + 1


def test_who_has_resigned_is_not_waited_for_and_nobody_resigns_for_another(control: Control) -> None:
    first = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.publish(plan("m1", first, 1), {}, [])
    control.resign("m1", first - 1)
    control.resign("m2", first)
    with pytest.raises(QueueServerError, match="REIGNING m1"):
        control.take_epoch("m2", 0, respect=3, take_over=False)
    control.resign("m1", first)
    second = control.take_epoch("m2", 0, respect=3, take_over=False)
    assert second > first
    control.publish(plan("m2", second, 1), {}, [])
    control.resign("m1", first)
    with pytest.raises(QueueServerError, match="REIGNING m2"):
        control.take_epoch("m3", 0, respect=3, take_over=False)


def test_epoch_rises_above_what_masters_remember_when_the_server_has_lost_it(control: Control) -> None:  # case 45
    epoch = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.server.redis.delete(keys.EPOCH)
    assert control.take_epoch("m2", epoch + 7, respect=3, take_over=False) > epoch + 7


@pytest.mark.parametrize("lost", ["hdel", "older"])
def test_a_manager_whose_epoch_was_lost_in_a_failover_is_deposed_and_no_epoch_comes_twice(
    control: Control, lost: str
) -> None:  # case 45
    former = control.take_epoch("m0", 0, respect=3, take_over=True)
    before = control.server.redis.hgetall(keys.EPOCH)
    epoch = control.take_epoch("m1", 0, respect=3, take_over=True)
    control.publish(plan("m1", epoch, 1), {"web": row(epoch, 1, "a")}, [])
    control.server.redis.delete(keys.EPOCH)
    if lost == "older":
        control.server.redis.hset(keys.EPOCH, mapping=before)
        with pytest.raises(QueueServerError) as error:
            control.publish(plan("m1", epoch, 2), {"web": row(epoch, 2, "b")}, [])
        assert refusal(error) == "DEPOSED"
    following = control.take_epoch("m2", epoch, respect=3, take_over=True)  # which masters report by then
    assert following > epoch > former
    with pytest.raises(QueueServerError):
        control.publish(plan("m1", epoch, 3), {"web": row(epoch, 3, "b")}, [])


@pytest.mark.parametrize("reported", [(1 << 53) - 1, 10**17, 10**18, (1 << 64) - 1, -5])
def test_an_epoch_that_is_nonsense_is_risen_above_by_nobody(control: Control, reported: int) -> None:
    first = control.take_epoch("m1", reported, respect=3, take_over=False)
    control.publish(plan("m1", first, 1), {}, [])
    second = control.take_epoch("m2", reported, respect=3, take_over=True)
    control.publish(plan("m2", second, 1), {}, [])
    assert first < second < 10**13
    control.server.redis.hset(keys.EPOCH, "epoch", "1e+18")
    third = control.take_epoch("m3", second, respect=3, take_over=True)
    control.publish(plan("m3", third, 1), {}, [])
    assert second < third < 10**13


def test_the_highest_epoch_of_all_still_publishes(control: Control) -> None:
    epoch = control.take_epoch("m1", (1 << 53) - 2, respect=3, take_over=False)
    control.publish(plan("m1", epoch, 1), {}, [])
    assert epoch == (1 << 53) - 1


def test_a_clock_that_has_gone_back_keeps_nobody_from_reigning_and_no_epoch_comes_twice(control: Control) -> None:
    epoch = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.publish(plan("m1", epoch, 1), {}, [])
    now = micros_now(control.server)
    ahead = (now + 3_600_000_000) // 1000
    control.server.redis.hset(keys.EPOCH, mapping={"published": now + 1_000_000, "epoch": ahead})
    with pytest.raises(QueueServerError) as error:
        control.take_epoch("m2", 0, respect=3, take_over=False)
    assert refusal(error) == "REIGNING"
    control.server.redis.hset(keys.EPOCH, "published", now + 3_600_000_000)
    assert control.take_epoch("m2", 0, respect=3, take_over=False) == ahead + 1


def test_manager_that_published_just_now_is_respected_unless_told_otherwise(control: Control) -> None:
    epoch = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.publish(plan("m1", epoch, 1), {}, [])
    with pytest.raises(QueueServerError, match="m1") as error:
        control.take_epoch("m2", 0, respect=3, take_over=False)
    assert refusal(error) == "REIGNING"
    assert control.take_epoch("m1", 0, respect=3, take_over=False) > epoch
    assert control.take_epoch("m2", 0, respect=3, take_over=True) > epoch


def test_deposed_manager_changes_nothing(control: Control) -> None:
    old = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.publish(plan("m1", old, 1), {"web": row(old, 1, "a")}, [])
    new = control.take_epoch("m2", 0, respect=3, take_over=True)
    with pytest.raises(QueueServerError) as error:
        control.publish(plan("m1", old, 2), {"web": row(old, 2, "b")}, ["web"])
    assert refusal(error) == "DEPOSED"
    assert control.rows() == {"web": row(old, 1, "a")}
    control.publish(plan("m2", new, 1), {"db": row(new, 1, "b")}, ["web"])
    assert control.rows() == {"db": row(new, 1, "b")}


def test_plan_of_an_older_turn_is_refused(control: Control) -> None:
    epoch = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.publish(plan("m1", epoch, 2), {"web": row(epoch, 2, "a")}, [])
    for seq in (1, 2):
        with pytest.raises(QueueServerError, match="DEPOSED"):
            control.publish(plan("m1", epoch, seq), {"web": row(epoch, seq, "b")}, [])
    assert control.rows() == {"web": row(epoch, 2, "a")}


def test_master_hears_its_row_with_the_report(control: Control) -> None:
    epoch = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.publish(plan("m1", epoch, 1), {"web": row(epoch, 1, "a", "b"), "db": row(epoch, 1)}, [])
    control.take_over("web", "", "i1", gone_after=10)
    assert control.report(report(), None)[:3] == (row(epoch, 1, "a", "b"), False, Orders())
    control.server.redis.hset(keys.MAP, "bad", b"\xc1")
    assert set(control.rows()) == {"web", "db"}


def pulse(control: Control) -> tuple[int, int]:
    """When the server last served, and since when without a gap (µs)."""
    last, resumed = control.server.redis.hmget(keys.PULSE, "last", "resumed")
    return int(last), int(resumed)


@pytest.mark.parametrize("ago", [1_000_000, 4_000_000])
def test_beat_carries_the_service_on(control: Control, ago: int) -> None:
    now = micros_now(control.server)
    control.server.redis.hset(keys.PULSE, mapping={"last": now - ago, "resumed": 7})
    control.beat()
    last, resumed = pulse(control)
    assert (last >= now, resumed) == (True, 7)


@pytest.mark.parametrize("ago", [6_000_000, 3_600_000_000, -60_000_000, None])
def test_beat_after_a_gap_or_a_clock_gone_back_begins_anew(control: Control, ago: int | None) -> None:
    now = micros_now(control.server)
    if ago is not None:
        control.server.redis.hset(keys.PULSE, mapping={"last": now - ago, "resumed": 7})
    control.beat()
    last, resumed = pulse(control)
    assert now <= last == resumed


def test_full_server_still_hears_reports_and_publishes_the_map(control: Control) -> None:
    control.take_over("web", "", "i1", gone_after=10)
    epoch = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.server.redis.config_set("maxmemory", 1)
    try:
        control.report(report(), None)
        control.publish(plan("m1", epoch, 1), {"web": row(epoch, 1, "a")}, [])
        control.take_over("web", "i", "i2", gone_after=10)
        control.take_epoch("m2", 0, respect=3, take_over=True)
        control.leave("web", "i2")
        control.beat()
    finally:
        control.server.redis.config_set("maxmemory", 0)


def test_orders_reach_their_server_with_its_report_until_they_are_taken_back(control: Control) -> None:
    for name in ("web", "db"):
        control.take_over(name, "", "i1", gone_after=10)

    def heard(name: str = "web") -> Orders:
        return control.report(report(server=name), None)[2]

    control.order("web", draining=True)
    assert (heard(), heard("db")) == (Orders(draining=True), Orders())
    control.order("web", recycle={3: 4711, 12: 4712})
    control.order("web", recycle={5: 4713})
    assert heard().draining
    assert {slot: pid for slot, (pid, _) in heard().recycle.items()} == {3: 4711, 12: 4712, 5: 4713}
    control.order("web", draining=False)
    assert not heard().draining and len(heard().recycle) == 3
    assert control.orders().keys() == {"web"}


def test_what_was_to_be_recycled_is_forgotten_after_a_minute(control: Control) -> None:
    seconds = micros_now(control.server) // 1_000_000
    old = {"draining": False, "recycle": {"3": [4711, seconds - 61], "4": [4712, seconds]}}
    control.server.redis.hset(keys.ORDERS, "web", msgspec.json.encode(old))
    control.order("web")
    assert control.orders()["web"].recycle.keys() == {4}
    control.server.redis.hset(keys.ORDERS, "web", msgspec.json.encode({**old, "recycle": {"3": [4711, 0]}}))
    control.order("web")
    assert control.orders() == {}


def test_names_and_records_that_are_no_text_are_no_end(control: Control) -> None:
    control.server.redis.hset(keys.ORDERS, b"\xff", b"\xff")
    control.server.redis.hset(keys.REPORTS, "web", msgspec.msgpack.encode(report()).replace(b"web", b"\xff\xff\xff"))
    assert control.orders().keys() == {"\\xff"}
    assert control.where("web") == ""


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"[]", b'{"draining": 1}'])
def test_orders_that_cannot_be_read_order_nothing(control: Control, raw: bytes) -> None:
    control.take_over("web", "", "i1", gone_after=10)
    control.server.redis.hset(keys.ORDERS, "web", raw)
    assert control.report(report(), None)[2] == Orders()


def test_reports_are_believed_field_by_field_and_what_is_not_is_told(control: Control) -> None:
    control.report(report(), None)
    lie = msgspec.msgpack.encode({**msgspec.to_builtins(report(server="db")), "max_slots": 10**9, "pid": "x"})
    control.server.redis.hset(keys.REPORTS, mapping={"db": lie, "bad": b"\xc1", b"\xff\x1b": lie, "a b": lie})
    control.server.redis.zadd(keys.SEEN, {b"\xff\x1b": 7})
    heard = control.heard()
    assert heard.reports.keys() == {"web", "db"}
    assert (heard.reports["db"].max_slots, heard.reports["db"].pid) == (4096, 0)
    assert heard.faults.keys() == {"db", "bad", "\\xff\x1b", "a b"}
    assert heard.faults["db"] == ("pid: Expected `int`, got `str`", "max_slots is 1000000000: 4096 counts")
    assert 0 <= heard.now - heard.seen["web"] < 5


def test_a_declaration_that_is_not_believed_is_told_apart_from_one_that_is_not_there(control: Control) -> None:
    control.server.redis.hset(keys.DECLARED, "bad", msgspec.msgpack.encode({"queues": [{"name": "a b"}]}))
    endless = msgspec.msgpack.encode({"queues": [{"name": "a", "min_slots": 2**64 - 1}]})
    control.server.redis.hset(keys.DECLARED, "endless", endless)
    found, faults = control.declarations({"bad", "endless", "unknown"})
    assert (found, faults.keys()) == ({}, {"bad", "endless"})
    assert "Expected `str` matching regex" in faults["bad"] and "Expected `int` <= 999999999" in faults["endless"]


def test_servers_that_are_silent_for_long_are_forgotten_a_few_a_call_and_others_are_not(control: Control) -> None:
    now = micros_now(control.server)
    for name in ("web", *(f"old-{n:02}" for n in range(25))):
        control.take_over(name, "", "i1", gone_after=10)
        control.report(report(server=name), None)
    control.server.redis.zadd(keys.SEEN, {f"old-{n:02}": now - 3_700_000_000 for n in range(25)})
    assert len(control.forget(3600.0, [])) == 20
    assert len(control.forget(3600.0, [])) == 5
    assert control.forget(3600.0, []) == []
    assert control.heard().reports.keys() == {"web"}
    assert control.server.redis.hkeys(keys.MASTERS) == control.server.redis.zrange(keys.SEEN, 0, -1) == [b"web"]


def test_a_master_that_was_forgotten_registers_anew_and_declares_again(control: Control) -> None:
    declared = Declared((QueueDeclared("resize"),))
    digest = declared.digest()
    control.report(report(declared=digest), declared)
    control.server.redis.zadd(keys.SEEN, {"web": 1})
    assert control.forget(60.0, [digest]) == ["web"]
    assert control.digests() == set()
    assert control.report(report(declared=digest), None)[1]
    control.report(report(declared=digest), declared)
    assert control.heard().reports.keys() == {"web"} and control.digests() == {digest}


def test_pins_stay_until_they_are_taken_back(control: Control) -> None:
    control.pin("mail", 4)
    control.pin("index", 0)
    control.pin("mail", 5)
    control.server.redis.hset(keys.PINS, mapping={"x": "many", "y": "-1", "z": "9" * 30, b"\xff": "x"})
    assert control.pins() == {"mail": 5, "index": 0}
    control.pin("mail", None)
    assert control.pins() == {"index": 0}


def test_a_map_that_has_lost_rows_shows_in_the_answer(control: Control) -> None:
    epoch = control.take_epoch("m1", 0, respect=3, take_over=False)
    assert control.publish(plan("m1", epoch, 1), {"web": row(epoch, 1, "a"), "db": row(epoch, 1)}, []) == 2
    control.server.redis.hdel(keys.MAP, "db")
    assert control.publish(plan("m1", epoch, 2), {}, []) == 1


def test_masters_hear_how_long_ago_a_manager_has_published(control: Control) -> None:
    assert control.report(report(), None)[3] is None
    epoch = control.take_epoch("m1", 0, respect=3, take_over=False)
    control.publish(plan("m1", epoch, 1), {}, [])
    ago = control.report(report(), None)[3]
    assert ago is not None and 0 <= ago < 5
    control.server.redis.hset(keys.PULSE, "planned", micros_now(control.server) - 90_000_000)
    ago = control.report(report(), None)[3]
    assert ago is not None and 90 <= ago < 95


def test_many_reports_and_rows_are_read_in_chunks(control: Control, server: QueueServer) -> None:  # case 47
    raw = {f"web-{i}": pack(report(server=f"web-{i}")) for i in range(1000)}
    server.redis.hset(keys.REPORTS, mapping=raw)
    server.redis.hset(keys.MAP, mapping={name: pack(row(1, 1, "photos", "a-name-of-some-length")) for name in raw})
    server.redis.config_resetstat()
    assert control.heard().reports.keys() == control.rows().keys() == raw.keys()
    counted = server.redis.info("commandstats")
    assert counted["cmdstat_hscan"]["calls"] >= 2 * 4
    assert not counted.keys() & {"cmdstat_hgetall", "cmdstat_hvals"}
