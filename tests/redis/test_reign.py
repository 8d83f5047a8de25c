"""A manager's roster and reign on a real queue server: who counts, what is sent, told and forgotten, who is deposed."""

import pathlib

import msgspec
import pytest
from support.deaf import DeafLine

from qmanager import roster
from qmanager.published import newest_plan
from qmanager.publishing import Reign, Reigning
from qmanager.roster import Roster
from qslots import keys
from qslots.control import Control
from qslots.errors import Error, QueueServerDown
from qslots.queueserver import QueueServer
from qslots.reports import Declared, HandlerDeclared, QueueDeclared, Report, SlotReport
from qslots.settings import QueueSettings

DECLARED = Declared((QueueDeclared("mail", handlers=(HandlerDeclared("send"),)), QueueDeclared("index")))


@pytest.fixture
def control(server: QueueServer) -> Control:
    return Control(server)


def report(name: str, **changes: object) -> Report:
    made = Report(
        server=name, incarnation="i", host="h", pid=1, generation=1, declared=DECLARED.digest(), budget=100,
        max_slots=4, pss=1, free_memory=1, slot_size=1, slot_sizes={}, epoch=0, seq=0,
        slots=(SlotReport(0, 7, 1, "idle", ("mail",)),),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return said


def test_a_fleet_is_its_servers_declarations_settings_and_pins(
    control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "qmanager")
    for name in ("web", "db"):
        control.report(report(name), DECLARED)
    control.server.redis.zadd(keys.SEEN, {"db": 1})
    control.pin("index", 3)
    mine = Roster(control, {"mail": QueueSettings(priority=77)}, 5.0)
    fleet = mine.look()
    assert [each.server for each in fleet.reports] == ["web"]
    assert (fleet.queues["mail"].priority, fleet.queues["index"].min_slots, fleet.held) == (77, 3, False)
    assert told(caplog) == ["reporting: web"]
    control.pin("index", None)
    assert mine.look().queues["index"].min_slots == 0
    assert told(caplog) == []


def test_what_is_not_believed_is_told_of_once(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "qmanager")
    control.report(report("web"), DECLARED)
    control.report(report("odd", declared="d" * 24), None)
    control.server.redis.hset(keys.DECLARED, "d" * 24, b"\xc1")
    report_nonsense(control, "bad")
    control.server.redis.hset(keys.REPORTS, mapping={f"x y{n}": b"" for n in range(30)})
    mine = Roster(control, {}, 5.0)
    for _ in range(3):
        fleet = mine.look()
        assert [each.server for each in fleet.reports] == ["bad", "odd", "web"]
        assert fleet.declared.keys() == {DECLARED.digest()}
    said = told(caplog)
    assert sum("server bad: of its report is not believed: it cannot be read" in line for line in said) == 1
    assert sum(line.startswith(f"declaration {'d' * 24} is not believed") for line in said) == 1
    assert len(said) == roster.MOST_TOLD + 2 and "nor is that of 11 more servers" in said


def test_what_is_not_believed_is_told_of_again_when_its_server_had_been_gone(
    control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "qmanager")
    mine = Roster(control, {}, 5.0)
    for _ in range(2):
        report_nonsense(control, "bad")
        for _ in range(2):
            mine.look()
        control.server.redis.hdel(keys.REPORTS, "bad")
        control.server.redis.zrem(keys.SEEN, "bad")
        mine.look()
    assert sum("server bad: of its report is not believed" in line for line in told(caplog)) == 2


def report_nonsense(control: Control, name: str) -> None:
    control.server.redis.hset(keys.REPORTS, name, b"\xc1")
    control.server.redis.zadd(keys.SEEN, {name: control.heard().now * 1e6})


def test_what_nobody_names_any_more_is_forgotten_at_the_second_look(control: Control) -> None:
    control.report(report("web"), DECLARED)
    control.server.redis.hset(keys.DECLARED, "old", b"x")
    control.report(report("gone", declared="old"), None)
    control.server.redis.zadd(keys.SEEN, {"gone": 1})
    mine = Roster(control, {}, 5.0)
    mine.look()
    mine.forget(0.0)
    mine.look()
    assert control.heard().reports.keys() == {"web"}
    mine.forget(1.0)  # too soon
    assert control.digests() == {"old", DECLARED.digest()}
    for now in (roster.EVERY, 2 * roster.EVERY):
        mine.forget(now)
    assert control.digests() == {DECLARED.digest()}


def test_while_many_are_to_be_forgotten_each_cycle_forgets_some(control: Control) -> None:
    control.server.redis.zadd(keys.SEEN, {f"gone{n}": 1 for n in range(2 * roster.AT_ONCE + 3)})
    mine, left = Roster(control, {}, 5.0), []
    for now in range(4):
        mine.forget(float(now))
        left.append(control.server.redis.zcard(keys.SEEN))
    assert left == [roster.AT_ONCE + 3, 3, 0, 0]


def rows(control: Control) -> dict[str, object]:
    return {name: row.slots for name, row in control.rows().items()}


def begun(control: Control, name: str = "m") -> Reign:
    reign = Reign(control, name)
    reign.begin(0, respect=0.0, take_over=True)
    return reign


def test_only_what_differs_is_sent_and_what_was_lost_is_sent_again(control: Control) -> None:
    reign = begun(control)
    new = {"web": (("mail",),), "db": (("index",), ())}
    reign.publish(new, (), (), now=1.0, declared=())
    reign.publish({**new, "web": (("index",),)}, (), (), now=2.0, declared=())
    assert {name: row.seq for name, row in control.rows().items()} == {"web": 2, "db": 1}
    control.server.redis.hdel(keys.MAP, "db")
    reign.hold(now=3.0, declared=())
    reign.hold(now=4.0, declared=())
    assert rows(control) == {"web": (("index",),), "db": (("index",), ())}
    control.server.redis.flushall()
    reign.hold(now=5.0, declared=())
    reign.hold(now=6.0, declared=())
    assert rows(control) == {"web": (("index",),), "db": (("index",), ())}
    reign.publish({"web": (("index",),)}, (), (), now=7.0, declared=())
    assert rows(control) == {"web": (("index",),)}


def test_a_row_that_cannot_be_read_costs_no_more_than_one_look(control: Control) -> None:
    reign = begun(control)
    control.server.redis.hset(keys.MAP, "bad", b"\xc1")
    looks = []
    for now in range(4):
        before = scans(control)
        reign.publish({"web": (("mail",),)}, (), (), now=float(now), declared=())
        looks.append(scans(control) - before)
    assert looks == [1, 0, 0, 0]
    assert rows(control) == {"web": (("mail",),)}


def scans(control: Control) -> int:
    """How often the queue server was asked for the fields of a hash."""
    counts = control.server.redis.info("commandstats")
    return int(counts.get("cmdstat_hscan", {"calls": 0})["calls"])


def test_a_plan_that_is_no_text_is_no_plan_and_its_successor_reigns(control: Control) -> None:
    begun(control, "old").hold(now=1.0, declared=())
    raw = control.server.redis.get(keys.PLAN)
    control.server.redis.set(keys.PLAN, raw.replace(b"old", b"\xff\xff\xff"))
    begun(control).hold(now=2.0, declared=())
    assert newest_plan(control.server.redis)[0] is not None


def test_who_is_deposed_ends_and_takes_no_higher_epoch(control: Control) -> None:
    first = begun(control, "first")
    begun(control, "second")
    with pytest.raises(Error, match="first ends: the slot map is in other hands"):
        first.hold(now=1.0, declared=())
    with pytest.raises(Reigning, match="manager second reigned"):
        first.rise(10**15)


def test_what_was_published_unheard_is_sent_again(control: Control, folder: pathlib.Path) -> None:
    line = DeafLine(folder, control.server.url.removeprefix("unix://"))
    mine, other = QueueServer(line.url, name="m", timeout=1.0), {"web": (("index",),)}
    reign = begun(Control(mine))
    reign.publish({"web": (("mail",),)}, (), (), now=1.0, declared=())
    line.loses = True
    with pytest.raises(QueueServerDown):
        reign.publish(other, (), (), now=2.0, declared=())
    assert rows(control) == other
    line.loses = False
    mine.close()
    reign.publish({"web": (("mail",),)}, (), (), now=3.0, declared=())
    assert rows(control) == {"web": (("mail",),)}
    line.close()


def test_who_has_begun_is_respected_before_and_after_it_publishes_and_when_it_rises(control: Control) -> None:
    first = Reign(control, "first")
    first.begin(0, respect=3.0, take_over=False)
    for step in (lambda: None, lambda: first.hold(now=1.0, declared=()), lambda: first.rise(first.epoch)):
        step()
        with pytest.raises(Reigning, match="manager first reigned a moment ago"):
            Reign(control, "second").begin(0, respect=3.0, take_over=False)
    assert first.epoch > 0


def test_a_reign_rises_above_what_masters_obey_and_sends_all_again(control: Control) -> None:
    reign = begun(control)
    reign.publish({"web": (("mail",),)}, (), (), now=1.0, declared=())
    assert reign.rise(10**15) == 10**15 + 1
    reign.hold(now=2.0, declared=())
    assert control.rows()["web"].epoch == 10**15 + 1


def test_a_new_manager_begins_with_the_map_in_force(control: Control) -> None:
    begun(control).publish({"web": (("mail",),)}, (), (), now=1.0, declared=())
    assert begun(control, "next").rows == {"web": (("mail",),)}
