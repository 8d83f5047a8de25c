"""Each fault of the manager or its node: a new map, its time told beside the goal, by one; slots do not notice."""

import time

import pytest
from cluster.faults import FAULTS, FENCED, MOVES
from cluster.site import PATIENCE, Site
from support.waiting import wait_for

OUTAGE = 25.0  # s without queue server: an agent gives up its manager after five to seven, so each node has its turn


@pytest.mark.parametrize("fault", FAULTS)
def test_one_manager_publishes_a_new_map_and_slots_do_not_notice(
    site: Site, times: dict[str, float], fault: str
) -> None:
    former = site.last
    node = former.place[0]
    presses = len(site.cluster.switch.pressed)
    with site.undisturbed():
        began = time.time()
        FAULTS[fault](site)
        new = site.publishes.next_reign(former, PATIENCE)
        times[fault] = new.at - began
        site.settle()
    assert fault not in MOVES or new.place[0] != node
    fenced = site.cluster.switch.pressed[presses:]
    assert fenced == ([("reboot", node)] if fault in FENCED else [])


def test_case_46_a_queue_server_that_is_away_bans_the_manager_nowhere(site: Site, times: dict[str, float]) -> None:
    slots, began = site.slots(), time.monotonic()
    site.redis.stop(keep=True)
    wait_for(lambda: time.monotonic() > began + OUTAGE, "the outage to last", OUTAGE + 5.0)
    site.redis.start()
    back = time.time()
    first = site.publishes.first(lambda each: each.at >= back and each.seq > 0, PATIENCE)
    times["queue server away and back"] = first.at - back
    wait_for(lambda: site.slots() == slots, lambda: f"the same slots: {slots}, {site.slots()}")
