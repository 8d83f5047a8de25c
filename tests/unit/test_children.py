"""The registry of slots: phases only rise, and a late word of a dead tenant never touches the next one."""

import itertools

import pytest

from qmaster.children import Child, Children, Phase

MAIL = ("mail",)
CASES = list(itertools.product(Phase, Phase))


def tenant(registry: Children, index: int, holder: str, pid: int, phase: Phase = Phase.LIVE) -> Child:
    child = registry.order(index, holder, 1, 1.0, MAIL)
    child.phase, child.pid = phase, pid
    return child


@pytest.mark.parametrize(("before", "after"), CASES, ids=lambda phase: phase.name)
def test_a_phase_only_rises_and_the_first_reason_stands(before: Phase, after: Phase) -> None:
    registry = Children()
    child = tenant(registry, 0, "h", 7, before)
    rises = after > before
    assert registry.advance(child, after, 5.0, "first") is rises
    assert (child.phase, child.since, child.why) == ((after, 5.0, "first") if rises else (before, 1.0, ""))
    registry.advance(child, Phase.DEAD, 6.0, "second")
    assert child.why == ("first" if rises else "second" if before < Phase.DEAD else "")


def test_a_dead_tenant_is_known_by_name_until_it_is_settled_and_its_pid_names_nobody() -> None:
    registry = Children()
    child = tenant(registry, 0, "first", 7, Phase.DEAD)
    assert (registry.by_pid(7), registry.by_holder("first")) == (None, child)
    registry.gone(child)
    assert (registry.by_pid(7), registry.by_holder("first"), registry.tenants) == (None, None, {})


def test_a_pid_that_is_used_again_names_the_one_that_lives() -> None:
    registry = Children()
    tenant(registry, 0, "dead, not settled", 7, Phase.DEAD)
    living = tenant(registry, 1, "living", 7)
    assert registry.by_pid(7) is living


def test_an_index_has_one_tenant_and_the_next_one_is_not_the_one_before() -> None:
    registry = Children()
    first = tenant(registry, 0, "first", 7)
    with pytest.raises(AssertionError):
        registry.order(0, "second", 1, 2.0)
    registry.gone(first)
    second = registry.order(0, "second", 2, 3.0)
    assert registry.by_holder("first") is registry.by_pid(7) is None
    assert (second.phase, second.pid, second.since, second.generation) == (Phase.ORDERED, None, 3.0, 2)


def test_what_it_dies_of_is_counted_for_what_it_serves_and_before_that_for_what_it_was_ordered_for() -> None:
    child = tenant(Children(), 0, "h", 7)
    assert child.assignment == MAIL
    child.queues = ("other",)
    assert child.assignment == ("other",)


def test_slots_are_counted_by_phase() -> None:
    registry = Children()
    for index, phase in enumerate([Phase.ORDERED, Phase.LIVE, Phase.LIVE, Phase.DEAD]):
        tenant(registry, index, f"h{index}", 100 + index, phase)
    assert [registry.count(phase) for phase in Phase] == [1, 2, 0, 0, 1]
    assert registry.count(Phase.ORDERED, Phase.LIVE) == 3


def test_time_in_which_the_master_was_away_is_nobodys() -> None:
    registry = Children()
    child = tenant(registry, 0, "h", 7)
    registry.postpone(60.0)
    assert (child.since, child.ordered_at) == (61.0, 61.0)
