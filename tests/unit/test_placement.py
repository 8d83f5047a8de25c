"""Where slots go: bytes, identity and stillness, with servers as plain data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmanager.planning.board import Board
from qmanager.planning.grant import Grant, Names
from qmanager.planning.hear import hear
from qmanager.planning.placement import TOLERANCE, Rows, Server, place

NAMES = "abcdef"


def server(name: str, slots: int = 8, budget: int = 800, **fields: object) -> Server:
    fields.setdefault("knows", frozenset(NAMES))
    return Server(name, slots, budget, 100, **fields)  # type: ignore[arg-type]


def want(queues: str, slots: int, priority: int = 50) -> Grant:
    return Grant(tuple(queues), slots, priority)


def placed(
    wants: Sequence[Grant], servers: Sequence[Server], current: Mapping[str, Sequence[Names]] | None = None,
    most: Mapping[str, int | None] | None = None,
) -> Rows:  # fmt: skip
    return place(current or {}, wants, servers, most or dict.fromkeys(NAMES))[0]


def counts(rows: Rows) -> Counter[str]:
    return Counter("".join(queues) for row in rows.values() for queues in row if queues)


def test_slots_of_a_queue_are_spread_evenly() -> None:
    rows = placed([want("a", 7), want("b", 5)], [server("x"), server("y"), server("z")])
    for name in "ab":
        here = [sum(1 for queues in row if queues == (name,)) for row in rows.values()]
        assert max(here) - min(here) <= 1


def test_unchanged_input_gives_the_unchanged_map() -> None:
    wants, servers = [want("a", 7), want("bc", 2)], [server("x"), server("y")]
    rows = placed(wants, servers)
    assert place(rows, wants, servers, dict.fromkeys(NAMES)) == (rows, ())


def test_room_that_is_left_goes_to_who_asked_for_more_but_for_a_margin() -> None:
    asks = replace(want("a", 6), need=6, asked=20)
    rows, changes = place({}, [asks], [server("x", slots=20, budget=1000)], {"a": None})
    assert counts(rows) == {"a": 9}  # ten would fit: a twentieth stays, as budgets waver
    assert sum(each.reason == "there is room left" for each in changes) == 3
    again, _ = place(rows, [asks, want("b", 4)], [server("x", slots=20, budget=1000)], {"a": None, "b": None})
    assert counts(again)["b"] == 4  # what somebody has got so gives way to what is granted


def test_surplus_stays_until_a_deficit_claims_it() -> None:
    servers = [server("x", 4)]
    rows = placed([want("a", 4)], servers)
    fewer = [want("a", 1)]
    assert placed(fewer, servers, rows) == rows
    after, changes = place(rows, [*fewer, want("b", 2)], servers, dict.fromkeys(NAMES))
    assert counts(after) == {"a": 2, "b": 2}
    assert all("surplus of a" in change.reason for change in changes)


def test_free_room_is_used_before_surplus() -> None:
    rows = placed([want("a", 1), want("b", 1)], [server("x", 4)], {"x": [("a",), ("a",)]})
    assert rows == {"x": (("a",), ("a",), ("b",))}


def test_idle_slots_change_hands_first() -> None:
    rows = placed([want("a", 2), want("b", 1)], [server("x", 3, idle=frozenset({1}))], {"x": [("a",)] * 3})
    assert rows == {"x": (("a",), ("b",), ("a",))}


def test_max_takes_at_once() -> None:
    assert counts(placed([want("a", 1)], [server("x")], {"x": [("a",)] * 4}, {"a": 2})) == {"a": 2}


def test_draining_server_is_emptied_and_its_slots_go_elsewhere() -> None:
    rows = placed([want("a", 2)], [server("x", draining=True), server("y")], {"x": [("a",), ("a",)]})
    assert rows == {"x": ((), ()), "y": (("a",), ("a",))}


def test_budget_that_fell_sheds_the_least_important_slot() -> None:
    needed = [want("a", 2, 90), want("b", 2, 10)]
    fallen = server("x", budget=300, idle=frozenset({0, 2}))
    assert counts(placed(needed, [fallen], {"x": [("a",), ("b",), ("a",), ("b",)]})) == {"a": 2, "b": 1}
    rows, changes = place(
        {"x": [("a",), ("b",), ("a",)]}, [want("a", 2, 90)], [server("x", budget=200)], {"a": None, "b": None}
    )
    assert rows == {"x": (("a",), (), ("a",))}
    assert [change.reason for change in changes] == ["beyond the server's budget: 300 bytes of 200"]


def test_slots_are_counted_in_bytes_of_their_queue() -> None:
    rows = placed([want("a", 8)], [server("x", budget=800, slot_sizes={"a": 300})])
    assert counts(rows) == {"a": 2}


def test_queue_goes_only_where_its_generation_is_known() -> None:
    rows = placed([want("a", 4)], [server("x", knows=frozenset("b")), server("y")])
    assert rows == {"x": (), "y": (("a",),) * 4}


def test_server_whose_declaration_is_unknown_keeps_its_row() -> None:
    rows = placed([want("a", 3)], [server("x", knows=None), server("y")], {"x": [("old", "a"), ("a",)]})
    assert rows["x"] == (("old", "a"), ("a",))
    assert counts({"y": rows["y"]}) == {"a": 2}


def test_max_slots_that_fell_cuts_the_tail_only() -> None:
    rows = placed([want("a", 2), want("b", 2)], [server("x", 2)], {"x": [("a",), (), ("b",), ("a",)]})
    assert len(rows["x"]) == 2
    assert rows["x"][0] == ("a",)


def test_what_a_server_that_shrank_has_lost_is_replaced_at_once_elsewhere() -> None:
    before = {"x": [("a",)] * 30, "y": [("b",)] * 30}
    servers = [server("x", 10, budget=9000), server("y", 30, budget=9000)]
    assert counts(placed([want("a", 30), want("b", 10)], servers, before)) == {"a": 30, "b": 10}


def test_changed_group_keeps_its_slots() -> None:
    rows = placed([want("abc", 2)], [server("x"), server("y")], {"x": [("a", "b")], "y": [("d",), ("a", "b")]})
    assert rows == {"x": (("a", "b", "c"),), "y": (("d",), ("a", "b", "c"))}


@pytest.mark.parametrize(
    ("wants", "before", "reason"),
    [
        ([want("a", 1)], [], "so that somebody listens"),
        ([want("abc", 1)], [("a", "b")], "3 queues share this slot now, 2 did"),
        ([want("a", 1), want("b", 1)], [("a", "b")], "its 2 queues no longer share a slot"),
    ],
)
def test_reasons_are_plain_words(wants: list[Grant], before: list[Names], reason: str) -> None:
    _, changes = place({"x": before}, wants, [server("x")], dict.fromkeys(NAMES))
    assert changes[0].reason == reason


def test_new_server_gets_its_part_little_by_little() -> None:
    rows = placed([want("a", 8)], [server("x")])
    servers = [server("x"), server("y")]
    for _ in range(10):
        rows, changes = place(rows, [want("a", 8)], servers, {"a": None})
        assert len(changes) <= 2  # one move is two changes
        assert counts(rows) == {"a": 8}
    assert [row.count(("a",)) for row in rows.values()] == [4, 4]


def test_queue_too_large_to_stand_beside_others_shares_their_slot() -> None:
    rows = placed([want("a", 4, 90), want("b", 1, 10)], [server("x", budget=400, slot_sizes={"b": 400})])
    assert rows["x"].count(("a", "b")) == 1


SERVERS = st.lists(
    st.tuples(
        st.integers(0, 6), st.integers(0, 900), st.booleans(), st.sets(st.sampled_from(NAMES)),
        st.dictionaries(st.sampled_from(NAMES), st.integers(50, 250)),
        st.lists(st.lists(st.sampled_from(NAMES), max_size=3, unique=True), max_size=6),
    ),
    max_size=4,
)  # fmt: skip
WANTS = st.tuples(st.permutations(NAMES), st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), max_size=4))


@given(SERVERS, WANTS)
def test_no_server_is_overfilled_nobody_unheard_and_it_comes_to_rest(
    drawn: list[tuple[int, int, bool, set[str], dict[str, int], list[list[str]]]],
    wanted: tuple[list[str], list[tuple[int, int]]],
) -> None:
    servers = [
        server(f"s{i}", slots, budget, draining=drain, knows=frozenset(knows), slot_sizes=sizes)
        for i, (slots, budget, drain, knows, sizes, _) in enumerate(drawn)
    ]
    rows: Rows = {f"s{i}": tuple(tuple(sorted(q)) for q in each[5]) for i, each in enumerate(drawn)}
    names, shapes = iter(wanted[0]), wanted[1]
    wants = [Grant(queues, n, n * 10) for size, n in shapes if (queues := tuple(sorted(islice(names, size))))]
    for _ in range(40):
        rows, changes = place(rows, wants, servers, dict.fromkeys(NAMES))
        for each in servers:
            row = rows[each.name]
            assert len(row) <= each.max_slots
            assert sum(each.size(queues) for queues in row) <= each.budget * (1 + TOLERANCE)
            assert {name for queues in row for name in queues} <= (each.knows or set())
        heard = {name for row in rows.values() for queues in row for name in queues}
        for name in (name for each in wants for name in each.queues):
            able = [s for s in servers if not s.draining and s.max_slots and name in (s.knows or ())]
            assert name in heard or not any(each.size((name,)) <= each.budget for each in able)
        if not changes:
            return
    raise AssertionError("the map does not come to rest")


def test_who_can_be_elsewhere_makes_room_where_alone_a_queue_is_known() -> None:
    old = Server("x", 8, 800, 100, knows=frozenset({"a"}))
    new = Server("y", 8, 800, 100, knows=frozenset({"a", "new"}))
    wants = [Grant(("a",), 8, 50), Grant(("new",), 8, 90)]
    rows, changes = place({"x": (("a",),) * 4, "y": (("a",),) * 4}, wants, [old, new], dict.fromkeys(("a", "new")))
    assert {name: Counter(row) for name, row in rows.items()} == {"x": {("a",): 8}, "y": {("new",): 8}}
    assert {change.reason for change in changes if change.server == "x"} == {"moved from y, which makes room for new"}
    assert place(rows, wants, [old, new], dict.fromkeys(("a", "new")))[1] == ()


def test_many_that_lose_their_only_slot_at_once_are_heard_where_they_were() -> None:
    many = 1500  # more than Python nests calls
    rare = [f"rare{i}" for i in range(many)]
    servers = [Server(f"s{i:04}", 1, 100, 100, knows=frozenset({rare[i], "a"})) for i in range(many)]
    board = Board(servers, [(("a",),)] * many, [], {})
    hear(board, rare, {i: ((rare[i],),) for i in range(many)}, {})
    assert [board.listening[name] for name in rare] == [1] * many
