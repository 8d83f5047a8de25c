"""A fleet under Sentinel whose primary is killed: it goes on with the next one, and loses nothing that was proven."""

import signal

import pytest
from process.fleet import Fleet
from support import servers
from support.sentinels import Numbers, Watched, watched
from support.waiting import wait_for

from qslots.errors import QueueServerDown

WORK = """\
@task(batch=20, durability="replicated(1, 500ms)", backoff="100ms..100ms")
def work(n: int) -> None:
    time.sleep(0.002)
    note("end", n)
"""


def ended(fleet: Fleet) -> set[int]:
    return {int(run.words[1]) for run in fleet.runs("end")}


def test_fleet_goes_on_with_the_next_primary_and_every_task_that_was_proven_runs(bare_fleet: Fleet) -> None:
    binary = servers.find("path")
    if binary.missing:
        pytest.skip(binary.missing)
    with watched(binary) as there:
        try:
            _lose_the_primary(bare_fleet, there)
        finally:
            bare_fleet.stop_all()


def _lose_the_primary(fleet: Fleet, there: Watched) -> None:
    fleet.environ["QSLOTS_REDIS"] = there.url
    fleet.connect(there.url)
    fleet.write_app(WORK)
    fleet.publish(("work",), ("work",))
    master = fleet.start_master()
    pids = {slot["pid"] for slot in fleet.slots(2)}
    with Numbers(fleet.app.work.enqueue) as producer:
        wait_for(lambda: len(ended(fleet)) >= 100, fleet.all_said, 20)
        there.primary.send(signal.SIGKILL)
        stored = len(producer.proven)
        wait_for(lambda: len(producer.proven) >= stored + 100, "the producer to go on with the next primary", 20)

    def all_ran() -> bool:
        try:  # locks that the old primary's last second has left are taken back by whoever comes by
            fleet.client.reclaim("work", 60.0)
        except QueueServerDown:
            return False
        return set(producer.proven) <= ended(fleet)

    wait_for(all_ran, lambda: f"missing {sorted(set(producer.proven) - ended(fleet))}; {fleet.all_said()}", 90)
    lost = "was ended by its master: its pack was taken away"  # the old primary had told no replica that it was taken
    for gone in pids - {slot["pid"] for slot in fleet.slots(2)}:  # else slots live through it
        assert f"(pid {gone}) {lost}" in master.said(), master.said()
