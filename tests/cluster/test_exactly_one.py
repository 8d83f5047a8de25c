"""With nothing that keeps the second manager from running: the epoch makes it harmless, and it ends."""

from collections.abc import Iterator

import pytest
from cluster.site import GOAL, Site
from support.waiting import wait_for


@pytest.fixture
def unfenced(site: Site) -> Iterator[Site]:
    """Nobody is switched off, and each side of a split cluster runs what it can."""
    site.cluster.set(fencing=False, quorum="ignore")
    yield site
    site.settle()
    site.cluster.set(fencing=True)


def lives(site: Site, node: str, pid: str) -> bool:
    return site.rack.run(node, "kill", "-0", pid).returncode == 0


def test_both_sides_of_a_split_cluster_alive_and_one_publishes(unfenced: Site) -> None:
    former, (node, pid) = unfenced.last, unfenced.manager()
    presses = list(unfenced.cluster.switch.pressed)
    with unfenced.undisturbed():
        unfenced.rack.cut(node, "ring")
        new = unfenced.publishes.next_reign(former, GOAL)
        assert new.manager.partition("/")[0] in unfenced.others(node)
        wait_for(lambda: not lives(unfenced, node, pid), f"the deposed manager {former.manager} to end")
        wait_for(lambda: unfenced.last.seq >= new.seq + 5, lambda: f"maps go on: {unfenced.publishes.accepted[-5:]}")
        assert {each.manager for each in unfenced.publishes.since(new.at)} == {new.manager}
        assert unfenced.cluster.switch.pressed == presses


def test_a_manager_that_wakes_after_its_successor_has_begun_is_refused_and_ends(unfenced: Site) -> None:
    former, (node, pid) = unfenced.last, unfenced.manager()
    with unfenced.undisturbed():
        unfenced.rack.freeze(node)
        new = unfenced.publishes.next_reign(former, GOAL)
        unfenced.rack.thaw(node)
        wait_for(lambda: not lives(unfenced, node, pid), f"the deposed manager {former.manager} to end")
        assert all(each.epoch >= new.epoch for each in unfenced.publishes.since(new.at))
