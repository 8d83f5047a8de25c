"""What placement promises, each promise by its name, over clusters that hypothesis makes up."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from qmanager.planning.board import LEAST_MOVES
from qmanager.planning.grant import Grant, Names
from qmanager.planning.placement import TOLERANCE, Change, Rows, Server, place

NAMES = "abcdef"
SIZE = 100
ANY: dict[str, int | None] = dict.fromkeys(NAMES)
PRIORITIES = st.sampled_from((10, 50, 90))


def server(name: str, slots: int, **fields: object) -> Server:
    fields.setdefault("knows", frozenset(NAMES))
    fields.setdefault("budget", slots * SIZE)
    return Server(name, slots, slot_size=SIZE, **fields)  # type: ignore[arg-type]


@dataclass
class Case:
    """Servers, the map in force and the grants; ``plan`` is one cycle."""

    servers: list[Server]
    wants: list[Grant]
    rows: Mapping[str, Sequence[Names]] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)
    overdue: frozenset[str] = frozenset()
    most: Mapping[str, int | None] = field(default_factory=lambda: ANY)

    def plan(self) -> tuple[Change, ...]:
        self.rows, changes = place(
            self.rows, self.wants, self.servers, self.most, least=self.least, overdue=self.overdue
        )
        return changes

    def rest(self) -> None:
        for _ in range(150):
            if not self.plan():
                return
        raise AssertionError("the map does not come to rest")

    def count(self) -> Counter[Names]:
        found = Counter(queues for row in self.rows.values() for queues in row)
        del found[()]
        return found

    def used(self, each: Server) -> int:
        return sum(each.size(queues) for queues in self.rows[each.name])

    def roomy(self, queues: Names) -> list[Server]:
        return [
            each
            for each in self.servers
            if sum(map(bool, self.rows[each.name])) < each.max_slots
            and self.used(each) + each.size(queues) <= each.budget
        ]

    def able(self, queues: Names) -> list[Server]:
        return [each for each in self.servers if not each.draining and each.knows and each.knows >= {*queues}]

    def minimum(self, want: Grant) -> int:
        return self.least.get(want.queues[0], 0) if len(want.queues) == 1 else 0

    def capacity(self) -> int:
        return sum(each.max_slots for each in self.servers)


@st.composite
def cases(draw: st.DrawFn, *, shared: bool = False, sizes: bool = False) -> Case:
    """Grants that the servers can carry, and a map that may have come from anywhere."""
    powers = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    one = st.dictionaries(st.sampled_from(NAMES), st.integers(50, 150)) if sizes else st.just({})
    idle = st.frozensets(st.integers(0, 8))
    servers = [server(f"s{i}", power, slot_sizes=draw(one), idle=draw(idle)) for i, power in enumerate(powers)]
    names = [(name,) for name in NAMES[:4]]
    if shared:
        names.append(tuple(NAMES[4:]))
    left, wants = sum(powers), []
    for queues in names:
        slots = draw(st.integers(0, left))
        left -= slots
        if slots:
            wants.append(Grant(queues, slots, draw(st.sampled_from((10, 50, 90)))))
    rows = {
        each.name: tuple(draw(st.lists(st.sampled_from([(), *names]), max_size=each.max_slots))) for each in servers
    }
    return Case(servers, wants, rows)


@st.composite
def fleets(draw: st.DrawFn) -> Case:
    """Servers of all kinds in the middle of anything: memory classes, two generations and one that is not known just
    now, draining, pins, any map.
    """
    old, new = frozenset(NAMES[:4]), frozenset(NAMES)
    heavy = st.dictionaries(st.sampled_from(NAMES), st.integers(50, 400), max_size=3)
    classes = draw(st.lists(st.tuples(st.integers(1, 8), st.integers(200, 1200), heavy), min_size=1, max_size=3))
    servers = []
    for i in range(draw(st.integers(1, 7))):
        power, budget, sizes = draw(st.sampled_from(classes))
        knows = draw(st.sampled_from((new, new, old, None)))
        idle, draining = draw(st.frozensets(st.integers(0, 7))), draw(st.sampled_from((False, False, False, True)))
        servers.append(
            server(f"s{i}", power, budget=budget, slot_sizes=sizes, knows=knows, draining=draining, idle=idle)
        )
    names = [("a",), ("b",), ("c",), ("d",), ("e", "f")]
    wants = [Grant(queues, slots, draw(PRIORITIES)) for queues in names if (slots := draw(st.integers(0, 6)))]
    pinned = {
        name: pin for want in wants for name in want.queues[:1] if (pin := draw(st.sampled_from((0, want.slots))))
    }
    row = st.lists(st.sampled_from([(), *names, ("a", "e"), ("f",)]), max_size=10)
    rows = {f"s{i}": tuple(draw(row)) for i in range(draw(st.integers(0, 8)))}
    late = draw(st.frozensets(st.sampled_from(NAMES), max_size=2))
    return Case(servers, wants, rows, {n: min(2, pin) for n, pin in pinned.items()}, late, dict(ANY, **pinned))


def kept_promises(case: Case) -> None:
    """What holds of every map, whatever was before."""
    for each in case.servers:
        row = case.rows[each.name]
        assert len(row) <= each.max_slots
        assert case.used(each) <= each.budget * (1 + TOLERANCE)
        assert each.knows is None or {name for queues in row for name in queues} <= each.knows
        assert not each.draining or not any(row)
    listening = Counter(name for row in case.rows.values() for queues in row for name in queues)
    assert all(most is None or listening[name] <= most for name, most in case.most.items())


@given(fleets(), st.data())
def test_any_fleet_keeps_its_promises_after_every_prefix_of_every_plan_and_rests(
    case: Case, data: st.DataObject
) -> None:
    heard: list[set[str]] = []
    for _ in range(data.draw(st.integers(1, 3))):
        before = {each.name: list(case.rows.get(each.name, ())) for each in case.servers}
        changes = case.plan()
        kept_promises(case)
        heard.append({name for queues in case.count() for name in queues})
        case.rows = applied(before, changes[: data.draw(st.integers(0, len(changes)))])
    case.rest()
    kept_promises(case)
    granted = {name for want in case.wants for name in want.queues}
    assert {name for queues in case.count() for name in queues} & granted >= heard[0] & granted
    event(f"changed: {bool(changes)}")
    lacking = [want for want in case.wants if case.count()[want.queues] < want.slots]
    makeshift = not case.count().keys() <= {want.queues for want in case.wants}  # these keep their server's row
    event(f"some lack slots: {bool(lacking)}, makeshift: {makeshift}")
    for want in () if makeshift else lacking:
        assert not [each for each in case.roomy(want.queues) if each in case.able(want.queues)]


@given(fleets())
def test_no_minimum_lacks_while_there_is_room_or_another_has_more_than_its_own(case: Case) -> None:
    case.rest()
    count = case.count()
    assume(count.keys() <= {want.queues for want in case.wants})  # else a makeshift slot may serve it
    for want in case.wants:
        floors = {
            each.queues: max(1, case.minimum(each) * (each.priority >= want.priority)) for each in case.wants
        }  # fmt: skip
        if count[want.queues] >= min(case.minimum(want), case.most.get(want.queues[0]) or 99):
            continue
        able = case.able(want.queues)
        assert not [each for each in case.roomy(want.queues) if each in able]
        for each in able:
            free = each.budget - case.used(each) - each.size(want.queues)
            others = {queues for queues in case.rows[each.name] if queues and queues != want.queues}
            assert not [old for old in others if count[old] > floors.get(old, 99) and free + each.size(old) >= 0], (
                f"{want} on {each.name}"
            )


def applied(rows: dict[str, list[Names]], changes: Iterable[Change]) -> dict[str, list[Names]]:
    for change in changes:
        row = rows[change.server]
        row.extend([()] * (change.index + 1 - len(row)))
        row[change.index] = change.after
    return rows


@given(cases(shared=True, sizes=True), st.data())
def test_no_server_is_given_slots_beyond_its_budget_or_its_max_slots(case: Case, data: st.DataObject) -> None:
    budgets = {each.name: data.draw(st.integers(0, 900)) for each in case.servers}
    case.servers = [
        server(each.name, each.max_slots, slot_sizes=each.slot_sizes, budget=budgets[each.name])
        for each in case.servers
    ]
    for _ in range(3):
        changes = case.plan()
        for each in case.servers:
            assert len(case.rows[each.name]) <= each.max_slots
            assert case.used(each) <= each.budget * (1 + TOLERANCE)
            grown = any(each.size(x.after) > each.size(x.before) for x in changes if x.server == each.name)
            assert not grown or case.used(each) <= each.budget


@given(cases(), st.data())
def test_minima_are_kept_at_once_while_capacity_allows(case: Case, data: st.DataObject) -> None:
    case.least = {want.queues[0]: data.draw(st.integers(0, want.slots)) for want in case.wants}
    case.plan()
    assert all(case.count()[name,] >= least for name, least in case.least.items())
    assert all(case.count()[want.queues] for want in case.wants)


@given(cases(shared=True))
def test_all_grants_are_met_and_the_map_rests(case: Case) -> None:
    case.rest()
    assert all(case.count()[want.queues] >= want.slots for want in case.wants)


@given(cases(shared=True, sizes=True))
def test_unchanged_input_gives_the_unchanged_map(case: Case) -> None:
    case.rest()
    before = case.rows
    assert (case.plan(), case.rows) == ((), before)


@given(cases())
def test_overdue_queues_have_all_they_are_granted_at_once(case: Case) -> None:
    case.overdue = frozenset(NAMES)
    case.plan()
    assert all(case.count()[want.queues] >= want.slots for want in case.wants)


@given(st.integers(2, 40), st.integers(20, 60), st.data())
def test_no_more_than_a_hundredth_moves_in_a_cycle(servers: int, power: int, data: st.DataObject) -> None:
    total = servers * power
    shares = data.draw(st.lists(st.integers(0, total // 4), min_size=4, max_size=4))
    case = Case([server(f"s{i:02}", power) for i in range(servers)], [Grant(("f",), total, 50)])
    case.rest()
    case.wants = [Grant((name,), slots, 50) for name, slots in zip(NAMES, shares, strict=False) if slots]
    most = max(LEAST_MOVES, total // 100) + len(case.wants)  # with first slots
    case.least = {"a": min(3, shares[0])}
    for _ in range(3):
        assert sum(bool(each.before) for each in case.plan()) <= most + 3


@given(st.one_of(cases(), fleets()))
def test_slots_differ_by_one_at_most_between_equal_servers_with_room(case: Case) -> None:
    case.rest()
    wants = [each for each in case.wants if case.count()[each.queues] <= each.slots]  # what is surplus stays
    for want in wants:
        able = case.able(want.queues)
        for taker in (each for each in case.roomy(want.queues) if each in able):
            few = case.rows[taker.name].count(want.queues)
            for giver in able:
                many = case.rows[giver.name].count(want.queues)
                event(f"compared: {giver != taker and many > 0}")
                assert many <= 1 or (many - 1) / giver.max_slots < (few + 1) / taker.max_slots
                assert many - few <= 1 or giver.max_slots > taker.max_slots


@given(st.integers(5, 20), st.integers(2, 6), st.data())
def test_any_fifth_of_the_servers_takes_as_little_of_an_important_queue_as_can_be(
    servers: int, power: int, data: st.DataObject
) -> None:
    """Also in a cluster that is full, and whatever the map was before.

    With q slots on each server and r over, the k fullest servers hold k q + min(k, r) of them at least, however they
    are spread: that is what may be lost.
    """
    total = servers * power
    important = data.draw(st.integers(1, total * 4 // 10))
    others = total - important - data.draw(st.sampled_from((0, 0, 1, total // 3)))
    some = data.draw(st.integers(0, others))
    wants = [("a", important, 90), ("b", some, 50), ("c", others - some, 10)]
    row = st.lists(st.sampled_from([(), *((name,) for name in "abcd")]), max_size=power)
    case = Case(
        [server(f"s{i:02}", power) for i in range(servers)],
        [Grant((name,), slots, priority) for name, slots, priority in wants if slots],
        {f"s{i:02}": tuple(data.draw(row)) for i in range(servers)},
    )
    case.rest()
    assume(case.count()["a",] == important)  # what is surplus stays where it is
    event(f"full: {sum(case.count().values()) == total}")
    lost = data.draw(st.sets(st.sampled_from([each.name for each in case.servers]), max_size=servers // 5))
    each, over = divmod(important, servers)
    kept = sum(row.count(("a",)) for name, row in case.rows.items() if name not in lost)
    assert kept >= important - len(lost) * each - min(len(lost), over)
    case.servers = [each for each in case.servers if each.name not in lost]
    left = case.capacity() - important
    case.wants = [Grant(want.queues, min(want.slots, left // 2), want.priority) for want in case.wants]
    case.wants[0] = Grant(("a",), important, 90)
    case.plan()
    assert case.count()["a",] >= important


@given(cases(shared=True), st.data())
def test_every_prefix_of_a_plan_leads_to_the_same_numbers_and_rests(case: Case, data: st.DataObject) -> None:
    before = {name: list(row) for name, row in case.rows.items()}
    changes = case.plan()
    case.rows = applied(before, changes[: data.draw(st.integers(0, len(changes)))])
    case.rest()
    assert all(case.count()[want.queues] >= want.slots for want in case.wants)


@given(cases(shared=True, sizes=True), st.data())
def test_every_change_has_a_reason_of_one_line(case: Case, data: st.DataObject) -> None:
    before, lost = dict(case.rows), data.draw(st.booleans())
    if lost:
        case.servers = case.servers[1:]
    changes = case.plan()
    assert all(each.reason and "\n" not in each.reason for each in changes)
    assert told(before, case.rows) == {(each.server, each.index): (each.before, each.after) for each in changes}


def told(before: Mapping[str, Sequence[Names]], after: Rows | Mapping[str, Sequence[Names]]) -> dict[object, object]:
    return {
        (name, i): (was, now)
        for name, row in after.items()
        for i in range(max(len(row), len(before[name])))
        for was, now in [(at(before[name], i), at(row, i))]
        if was != now
    }


def at(row: Sequence[Names], index: int) -> Names:
    return row[index] if index < len(row) else ()


@given(cases(shared=True), st.data())
def test_servers_that_drain_are_emptied_at_once(case: Case, data: st.DataObject) -> None:
    drained = data.draw(st.sets(st.sampled_from([each.name for each in case.servers])))
    case.servers = [server(each.name, each.max_slots, draining=each.name in drained) for each in case.servers]
    case.plan()
    assert not any(queues for name in drained for queues in case.rows[name])


def counted(rows: Iterable[Sequence[Names]], queues: Names) -> list[int]:
    return [sum(each == queues for each in row) for row in rows]


def test_a_queue_is_spread_in_proportion_to_the_power_of_servers() -> None:
    case = Case([server("big", 96), server("small", 4)], [Grant(("a",), 50, 50)])
    case.rest()
    assert counted(case.rows.values(), ("a",)) == [48, 2]


def test_a_small_queue_lies_on_as_many_servers_as_it_has_slots_whatever_their_power() -> None:
    case = Case([server("big", 96), *(server(f"s{i}", 4) for i in range(4))], [Grant(("a",), 5, 50)])
    case.rest()
    assert counted(case.rows.values(), ("a",)) == [1] * 5


def test_lost_slots_are_taken_from_what_is_spare_at_once_however_many_they_are() -> None:
    servers = [server(f"s{i}", 40) for i in range(10)]
    case = Case(servers, [Grant(("a",), 200, 90), Grant(("b",), 200, 50)])
    case.rest()
    case.servers, case.wants = servers[2:], [Grant(("a",), 200, 90), Grant(("b",), 50, 50)]
    case.plan()
    assert case.count() == {("a",): 200, ("b",): 120}


@pytest.mark.parametrize("slots", [7, 20, 60])
@pytest.mark.parametrize("powers", [[20] * 20, [96, *[12] * 19]])
def test_what_goes_into_free_room_lies_evenly_at_once(slots: int, powers: list[int]) -> None:
    servers = [server(f"s{i:02}", power) for i, power in enumerate(powers)]
    case = Case(servers, [Grant(("a",), slots, 90), Grant(("b",), 2 * slots, 50)], {"s01": (("c",),) * 4})
    assert not any(each.reason.startswith("spread") for each in case.plan())
    assert case.plan() == ()
    if slots <= len(servers):
        assert max(counted(case.rows.values(), ("a",))) == 1


def test_where_bytes_are_short_the_important_come_first() -> None:
    case = Case([server("s0", 8, budget=400)], [Grant(("a",), 4, 10), Grant(("b",), 4, 90)])
    case.rest()
    assert case.count() == {("a",): 1, ("b",): 3}


def test_an_important_queue_changes_places_where_the_cluster_is_full() -> None:
    servers = [server(f"s{i}", 4) for i in range(5)]
    wants = [Grant(("a",), 4, 90), Grant(("b",), 16, 50)]
    case = Case(servers, wants, {"s0": (("a",),) * 4, **{f"s{i}": (("b",),) * 4 for i in range(1, 5)}})
    changes = case.plan()
    assert [each.reason for each in changes] == ["spread to s1: 4 there, 0 here", "spread from s0: 4 there, 0 here"]
    case.rest()
    assert sorted(counted(case.rows.values(), ("a",))) == [0, 1, 1, 1, 1]
    assert case.count() == {("a",): 4, ("b",): 16}


@pytest.mark.parametrize("sizes", [({"b": 200}, {}), ({}, {"a": 200})])
def test_nobody_changes_places_beyond_a_budget(sizes: tuple[dict[str, int], dict[str, int]]) -> None:
    servers = [server(f"s{i}", 2, slot_sizes=each) for i, each in enumerate(sizes)]
    case = Case(servers, [Grant(("a",), 2, 90), Grant(("b",), 2, 50)], {"s0": (("a",),) * 2, "s1": (("b",),) * 2})
    assert case.plan() == ()


def test_equally_important_queues_do_not_change_places() -> None:
    wants = [Grant(("a",), 4, 50), Grant(("b",), 4, 50)]
    case = Case([server("s0", 4), server("s1", 4)], wants, {"s0": (("a",),) * 4, "s1": (("b",),) * 4})
    assert case.plan() == ()


@pytest.mark.parametrize("needed", [1, 6])
def test_a_large_slot_finds_room_where_small_ones_can_go(needed: int) -> None:
    """Six servers with 150 free each and a slot of 200: nowhere room, though there is enough in all."""
    servers = [server(f"s{i}", 8, budget=200, slot_sizes={"a": 200, "b": 50}) for i in range(6)]
    case = Case(servers, [Grant(("b",), needed, 50), Grant(("a",), 1, 50)], {f"s{i}": (("b",),) for i in range(6)})
    changes = case.plan()
    assert case.count() == {("a",): 1, ("b",): 5 if needed == 1 else 6}
    assert len(changes) == (1 if needed == 1 else 2)
    case.rest()


def test_a_large_slot_moves_nobody_where_it_fits_anyway() -> None:
    servers = [server("s0", 8, budget=200, slot_sizes={"a": 200, "b": 50}), server("s1", 8, budget=400)]
    case = Case(servers, [Grant(("b",), 1, 50), Grant(("a",), 1, 50)], {"s0": (("b",),)})
    assert [each.server for each in case.plan()] == ["s1"]


def test_noise_of_the_budget_takes_no_slot() -> None:
    case = Case([server("s0", 4)], [Grant(("a",), 4, 50)])
    case.rest()
    case.servers = [server("s0", 4, budget=390)]
    assert case.plan() == ()
    case.servers = [server("s0", 4, budget=370)]
    assert len(case.plan()) == 1


def test_a_row_that_is_kept_for_one_queue_gives_no_other_more_than_its_max() -> None:
    kinds = {"x": frozenset(NAMES), "y": frozenset("abcd"), "z": frozenset(NAMES)}
    servers = [server(name, 4, slot_sizes={"a": 201, "c": 201}, knows=knows) for name, knows in kinds.items()]
    wants = [Grant((name,), slots, priority) for name, slots, priority in [("a", 1, 10), ("b", 1, 10), ("c", 2, 50)]]
    wants += [Grant(("d",), 4, 10), Grant(("e", "f"), 1, 50)]
    rows: dict[str, list[Names]] = {"x": [("a", "c"), ("d", "e", "f")], "y": [("b",), ("d",)], "z": [("c",), ("d",)]}
    case = Case(servers, wants, rows, least={"d": 2}, most=dict(ANY, d=4))
    for _ in range(3):
        case.plan()
        kept_promises(case)


def test_who_is_heard_in_two_ways_and_finds_no_place_joins_a_slot_once() -> None:
    only = server("x", 1, budget=750, slot_sizes={"b": 600, "c": 600})
    case = Case([only], [Grant(("a", "b"), 2, 50), Grant(("b",), 1, 50), Grant(("c",), 3, 90)], least={"c": 2})
    case.plan()
    assert case.rows["x"] == (("a", "b", "c"),)
