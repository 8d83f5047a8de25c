"""Never two: with fencing no second manager begins, without it the epoch makes it harmless, and it ends."""

from collections.abc import Iterator

import pytest
from cluster.publishes import Publish
from cluster.site import PATIENCE, Site
from support.waiting import wait_for

FORGOTTEN = 30.0  # s until a side whose manager has ended tries again


@pytest.fixture
def unfenced(site: Site) -> Iterator[Site]:
    """Nobody is switched off, and each side of a split cluster runs what it can."""
    site.cluster.set(fencing=False, quorum="ignore")
    presses = len(site.cluster.switch.pressed)
    yield site
    site.settle()
    assert len(site.cluster.switch.pressed) == presses
    site.cluster.set(fencing=True)


def test_nobody_takes_over_from_a_node_before_it_is_fenced(site: Site) -> None:
    first, switch = site.last, site.cluster.switch
    before = len(switch.pressed)
    with site.undisturbed():
        switch.broken = True
        try:
            site.rack.freeze(first.place[0])
            wait_for(lambda: len(switch.pressed) >= before + 2, lambda: f"fencing, tried twice: {switch.pressed}", 20.0)
            assert site.last.epoch == first.epoch
        finally:
            switch.broken = False
        site.publishes.next_reign(first, PATIENCE)


def wait_ended(site: Site, deposed: Publish) -> None:
    """Its process is gone."""
    node, pid = deposed.place
    wait_for(lambda: site.rack.run(node, "kill", "-0", pid).returncode, f"the deposed {deposed.manager} to end")


def test_both_sides_of_a_split_cluster_alive_and_one_publishes(unfenced: Site) -> None:
    first, publishes = unfenced.last, unfenced.publishes
    with unfenced.undisturbed():
        unfenced.rack.cut(first.place[0], "ring")
        second = publishes.next_reign(first, PATIENCE)
        assert second.place[0] != first.place[0]
        wait_ended(unfenced, first)
        wait_for(lambda: unfenced.last.seq >= second.seq + 5, lambda: f"maps go on: {publishes.accepted[-5:]}")
        assert {each.manager for each in publishes.since(second.at)} == {second.manager}
        third = publishes.next_reign(second, FORGOTTEN)  # each side takes over from the other in turn
        assert third.place[0] == first.place[0]
        wait_ended(unfenced, second)


def test_a_manager_that_wakes_after_its_successor_has_begun_is_refused_and_ends(unfenced: Site) -> None:
    first = unfenced.last
    with unfenced.undisturbed():
        unfenced.rack.freeze(first.place[0])
        second = unfenced.publishes.next_reign(first, PATIENCE)
        unfenced.rack.thaw(first.place[0])
        wait_ended(unfenced, first)
        assert all(each.epoch >= second.epoch for each in unfenced.publishes.since(second.at))
