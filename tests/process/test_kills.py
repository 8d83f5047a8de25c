"""Slots killed at random points of short packs: see kills.py; `make chaos` does it ten thousand times."""

import os

from process.fleet import Fleet
from process.kills import kill_slots

KILLS = 150


def test_killed_at_random_every_task_runs_and_only_the_one_that_ran_is_charged(fleet: Fleet) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    seen = kill_slots(fleet, slots=4, kills=KILLS, seed=seed)
    assert seen.faults == [], f"seed {seed}: {seen}"
    assert seen.with_pack > KILLS / 4, "most slots had no pack to lose"
    assert seen.running, "no kill came in the middle of a task"
