"""Standing orders of people: who is to leave for them, a few at a time, and how many slots there may be."""

from typing import Any

import pytest

from qmaster.bounds import Bound
from qmaster.byhand import DRAINED, RECYCLED, ByHand
from qmaster.children import Children, Phase
from qslots.reports import Orders


def lives(children: Children, index: int, phase: Phase = Phase.LIVE, tenant: int = 1) -> None:
    """A tenant of this index; its predecessor is gone."""
    children.tenants.pop(index, None)
    child = children.order(index, f"web/{index}/a.{tenant}", 1, 0.0)
    children.advance(child, phase, 0.0)


def living(count: int) -> Children:
    children = Children()
    for index in range(count):
        lives(children, index)
    return children


def test_a_drained_server_keeps_nobody() -> None:
    hand = ByHand(draining=True)
    assert hand.retiring(living(2), range(0)) == {0: DRAINED, 1: DRAINED}


@pytest.mark.parametrize(("here", "afar"), [(True, False), (False, True), (True, True)])
def test_either_order_drains(here: bool, afar: bool) -> None:
    assert ByHand(draining=here, drained_from_afar=afar).drains


def test_orders_from_afar_are_followed_as_often_as_they_are_heard() -> None:
    children, hand = living(2), ByHand()
    for child in children.tenants.values():
        child.pid = 100 + child.index
    orders = Orders(draining=False, recycle={0: (100, 0), 1: (999, 0), 7: (107, 0)})  # 999 was a tenant before
    assert hand.follow(orders, children) is False
    assert hand.follow(orders, children) is False
    assert hand.retiring(children, range(2)) == {0: RECYCLED}
    lives(children, 0, tenant=2)
    children.tenants[0].pid = 200
    hand.follow(orders, children)
    assert hand.retiring(children, range(2)) == {}
    assert hand.follow(Orders(draining=True), children) is True
    assert hand.drains
    assert hand.follow(Orders(), children) is True
    assert not hand.drains


def test_named_slots_leave_at_once_and_their_next_tenants_stay() -> None:
    children, hand = living(4), ByHand()
    assert hand.recycle(children, [1, 3, 1]) == ([1, 3], [])
    assert hand.retiring(children, range(4)) == {1: RECYCLED, 3: RECYCLED}
    lives(children, 1, tenant=2)
    assert hand.retiring(children, range(4)) == {3: RECYCLED}
    lives(children, 3, tenant=2)
    assert hand.retiring(children, range(4)) == {}


def test_what_does_not_live_is_told_of() -> None:
    children, hand = living(2), ByHand()
    lives(children, 1, Phase.LEAVING)
    assert hand.recycle(children, [0, 1, 7]) == ([0], [1, 7])


@pytest.mark.parametrize(("count", "at_once"), [(1, 1), (5, 1), (20, 2), (100, 10)])
def test_all_are_recycled_a_few_at_a_time(count: int, at_once: int) -> None:
    children, hand = living(count), ByHand()
    assert hand.recycle_all(children) == list(range(count))
    recycled: list[int] = []
    while leaving := hand.retiring(children, range(count)):
        assert len(leaving) <= at_once
        assert hand.retiring(children, range(count)) == leaving  # it may be asked again and again
        for index in leaving:
            lives(children, index, Phase.LEAVING, tenant=1)
        assert hand.retiring(children, range(count)) == {}
        for index in leaving:
            del children.tenants[index]
        assert hand.retiring(children, range(count)) == {}
        for index in leaving:
            lives(children, index, Phase.ORDERED, tenant=2)
        assert hand.retiring(children, range(count)) == {}
        for index in leaving:
            lives(children, index, tenant=2)
        recycled += leaving
    assert sorted(recycled) == list(range(count))


def test_a_slot_that_the_map_wants_no_more_holds_nobody_up() -> None:
    children, hand = living(3), ByHand()
    hand.recycle_all(children)
    assert list(hand.retiring(children, range(3))) == [0]
    del children.tenants[0]
    assert list(hand.retiring(children, {1, 2})) == [1]


def test_one_fewer_and_one_more_move_the_number_by_one_from_what_is() -> None:
    hand = ByHand()
    assert "at most 7" in hand.one_fewer(8, Bound.MEMORY)
    assert "at most 6" in hand.one_fewer(8, Bound.MEMORY)  # the capacity does not show the first one yet
    assert "at most 7" in hand.one_more(8, Bound.MEMORY)
    assert "at most 8" in hand.one_more(7, Bound.SETTING)
    assert "at most 9" in hand.one_more(8, Bound.SETTING)
    assert hand.most == 9


def test_one_more_and_one_fewer_before_the_next_reading_change_nothing() -> None:
    hand = ByHand(most=4)
    for _ in range(5):  # the capacity shows 4 all the time
        hand.one_more(4, Bound.SETTING)
        hand.one_fewer(4, Bound.SETTING)
    assert hand.most == 4
    hand.one_fewer(4, Bound.SETTING)
    hand.one_more(4, Bound.SETTING)
    assert hand.most == 4


def test_one_more_than_can_be_carried_is_none() -> None:
    hand = ByHand()
    assert hand.one_more(8, Bound.MEMORY) == "no slot more: 8 are what this server can carry just now (memory)"
    assert hand.most is None


def test_there_are_never_fewer_than_none() -> None:
    hand = ByHand()
    hand.one_fewer(0, Bound.SETTING)
    assert hand.most == 0


@pytest.mark.parametrize("said", [ByHand().one_more(None, ""), ByHand().one_fewer(None, "")])
def test_before_the_first_measurement_nothing_is_moved(said: Any) -> None:
    assert "nothing is measured yet" in said
