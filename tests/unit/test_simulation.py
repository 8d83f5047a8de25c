"""The simulation against closed forms, its determinism, every scenario, and what the planner is worth in them."""

import math
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmanager.simulation.fleet import CLOCK, Fleet, Policy
from qmanager.simulation.line import Line
from qmanager.simulation.load import Load, Loss, Phase, QueueLoad, drawn
from qmanager.simulation.measures import Figures, Watch, percentile
from qmanager.simulation.play import Outcome, played, simulated, static
from qmanager.simulation.policies import Planned, Static, allotted, divided
from qmanager.simulation.scenarios import SCENARIOS
from qmanager.simulation.server import SLOT_SIZE, Row, Size
from qslots.reports import HandlerDeclared, QueueDeclared, QueueStats, Report


def queue(
    arrivals: float, service_time: float, *, name: str = "q", batch: int = 1, cv: float = 1.0, **more: float
) -> QueueLoad:
    declared = QueueDeclared(name, handlers=(HandlerDeclared(name, batch),))
    phase = Phase(0.0, arrivals, service_time, more.pop("slowdown", 1.0), more.pop("parallel", math.inf))
    return QueueLoad(declared, (phase,), cv, **more)


def run(load: Load, size: Size, policy: Policy, seed: int = 1) -> Figures:
    return played(load, size, policy, tasks=drawn(load, seed), seed=seed, tick=lambda _: None)


def alone(load: QueueLoad, *, slots: int = 1, duration: float = 500.0, interval: float = 1.0, seed: int = 1) -> Figures:
    """One queue with so many slots of its own."""
    return run(Load("test", (load,), duration), Size(1, slots, interval=interval), Static({load.name: slots}), seed)


@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_one_slot_with_exponential_tasks_waits_as_m_m_1(busy: float) -> None:
    waited = alone(queue(busy * 100, 0.01)).queues["q"].mean
    assert waited == pytest.approx(0.01 * busy / (1 - busy), rel=0.15)


@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_one_slot_with_equal_tasks_waits_as_m_d_1(busy: float) -> None:
    waited = alone(queue(busy * 100, 0.01, cv=0.0)).queues["q"].mean
    assert waited == pytest.approx(0.01 * busy / (1 - busy) / 2, rel=0.15)


def test_several_slots_wait_as_m_m_c() -> None:
    slots, offered = 4, 3.2
    last = offered**slots / math.factorial(slots) / (1 - offered / slots)
    must_wait = last / (sum(offered**k / math.factorial(k) for k in range(slots)) + last)  # Erlang C
    waited = alone(queue(offered * 100, 0.01), slots=slots, duration=150).queues["q"].mean
    assert waited == pytest.approx(must_wait * 0.01 / (slots - offered), rel=0.1)


def test_tasks_that_hardly_differ_are_all_alike() -> None:
    assert alone(queue(1, 0.01, cv=1e-308)) == alone(queue(1, 0.01, cv=0.0))


def test_busy_slots_are_arrivals_times_service_time() -> None:
    assert alone(queue(30, 0.1), slots=5, duration=300).busy == pytest.approx(3 / 5, rel=0.05)


@given(
    offered=st.floats(0.5, 3.6),
    service_time=st.floats(0.05, 1.0),
    cv=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    seed=st.integers(0, 99),
)
def test_littles_law_holds(offered: float, service_time: float, cv: float, seed: int) -> None:
    """Waiting tasks on average = arrivals a second x their mean wait."""
    load = queue(offered / service_time, service_time, cv=cv)
    duration = 100.0
    figures = alone(load, slots=4, duration=duration, interval=0.05, seed=seed)
    seen = figures.queues["q"]
    before = (
        figures.curves["q"].backlog[0] * seen.max / duration
    )  # who waited when the time began has no part in the mean
    assert seen.backlog == pytest.approx(seen.tasks / duration * seen.mean, rel=0.1, abs=0.2 + before)


def test_a_storage_that_bears_so_many_tasks_at_a_time_finishes_no_more_of_them_by_more_slots() -> None:
    sick = queue(20, 0.1, slowdown=20, parallel=4.0)
    few, many = (alone(sick, slots=slots, duration=600).queues["q"] for slots in (4, 40))
    assert few.tasks - few.unstarted == pytest.approx(many.tasks - many.unstarted, rel=0.1)


def test_packs_share_what_a_pack_costs() -> None:
    dear = queue(10, 0.001, batch=50, pack_cost=0.3)
    assert alone(dear, slots=1, duration=300).queues["q"].unstarted < 20  # one by one they would need three slots


def test_what_stands_behind_a_long_task_in_a_pack_goes_back() -> None:
    """Tasks of 10 s in packs of 20: with slots enough nobody waits for another one's."""
    rare = queue(2, 0.5, cv=4.0, batch=20)
    assert alone(rare, slots=20, duration=600).queues["q"].max < 3.0


def test_tasks_of_a_lost_server_begin_again_when_their_lock_ends() -> None:
    lost = Load("test", (queue(1.0, 5.0),), 300.0, (Loss(100.0, 1),))
    seen = run(lost, Size(2, 10), Static({"q": 20}))
    assert 60 <= seen.queues["q"].max < 75
    assert (seen.slots_peak, seen.queues["q"].unstarted) == (20, 0)


class Noted:
    """A policy that gives no slots, and notes how many servers it was told of, and when."""

    detailed = False

    def __init__(self) -> None:
        self.told: list[tuple[float, int]] = []

    def rows(self, now: float, reports: Sequence[Report], _: object) -> dict[str, Row]:
        self.told.append((now - CLOCK, len(reports)))
        return {}


@pytest.mark.parametrize(("lost", "until", "after"), [(1, 55.0, 56.0), (2, 55.0, 61.0)])
def test_many_servers_gone_at_once_are_lost_later_than_one(lost: int, until: float, after: float) -> None:
    noted = Noted()
    run(Load("test", (queue(1.0, 0.5),), 80.0, (Loss(50.0, lost),)), Size(4, 2), noted)
    assert max(at for at, servers in noted.told if servers == 4) == pytest.approx(until, abs=1.0)
    assert min(at for at, servers in noted.told if servers == 4 - lost and at > 50) == pytest.approx(after, abs=1.0)


def test_a_queue_is_unheard_while_tasks_wait_and_no_slot_serves_it() -> None:
    gone = Load("test", (queue(1.0, 0.1),), 100.0, (Loss(20.0, 1, 50.0),))
    seen = run(gone, Size(1, 1), Static({"q": 1}))
    assert seen.queues["q"].unheard == pytest.approx(31.0, abs=3.0)


def test_slots_of_a_large_queue_take_more_of_a_server() -> None:
    servers = [Report("a", "", "", 1, 1, "", 4 * SLOT_SIZE, 4, 0, 0, SLOT_SIZE, {"big": 3 * SLOT_SIZE}, 1, 1)]
    [row] = allotted({}, {"big": 2, "small": 4}, servers).values()
    assert sorted(row) == [("big",), ("small",), (), ()] or sorted(row) == [(), (), ("big",), ("small",)]


def test_a_division_gives_each_one_and_the_rest_in_proportion() -> None:
    assert divided({"a": 6.0, "b": 3.0, "c": 0.0}, 12) == {"a": 7, "b": 4, "c": 1}
    assert divided({"a": 1.0, "b": 1.0}, 1) == {"a": 1, "b": 1}


def test_percentiles_are_by_nearest_rank() -> None:
    assert [percentile(range(1, 101), part) for part in (50, 95, 99)] == [50, 95, 99]
    assert (percentile([], 99), percentile([3.0], 50)) == (0.0, 3.0)


def test_the_static_division_keeps_min_and_max() -> None:
    bound = QueueLoad(
        QueueDeclared("b", min_slots=3, max_slots=4, handlers=(HandlerDeclared("b"),)), (Phase(0, 1, 100),)
    )
    assert static(Load("test", (queue(1, 1), bound), 10.0), 50)["b"] == 4


def play(name: str, servers: int, slots: int, duration: float, *, compare: bool, seed: int = 1) -> list[Outcome]:
    size = Size(servers, slots)
    return list(simulated(SCENARIOS[name](size, duration), size, seed=seed, compare=compare))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_played_on_a_small_fleet(name: str) -> None:
    [ours] = play(name, 5, 4, 120.0, compare=False)
    for queue_name, figures in ours.figures.queues.items():
        assert figures.p50 <= figures.p95 <= figures.p99 <= figures.max
        assert figures.tasks > 0 or queue_name == "invoice"
        assert len(ours.figures.curves[queue_name].slots) == 120
    assert 0 < ours.figures.slots_mean <= ours.figures.slots_peak <= 20


@pytest.mark.parametrize("name", SCENARIOS)
def test_urgent_tasks_wait_less_than_by_the_others_with_no_more_slots(name: str) -> None:
    ours, *others = play(name, 6, 6, 180.0, compare=True)
    for each in others:
        assert ours.figures.urgent(["urgent"]) < each.figures.urgent(["urgent"]), each.policy
        assert each.figures.slots_mean <= ours.figures.slots_mean * 1.03


def test_all_policies_face_the_same_tasks() -> None:
    outcomes = play("night", 3, 4, 120.0, compare=True)
    assert [each.policy for each in outcomes] == ["qslots", "static", "backlog"]
    counts = [{name: each.tasks for name, each in outcome.figures.queues.items()} for outcome in outcomes]
    assert counts[0] == counts[1] == counts[2]


def test_the_same_seed_gives_the_same_document_whatever_the_hashes() -> None:
    words = ["simulate", "losses", "--duration", "20s", "--servers", "3", "--slots", "3", "--no-compare", "--json"]
    command = [sys.executable, "-m", "qmanager", *words]
    first, second = (
        subprocess.run(command, capture_output=True, check=True, env={"PYTHONHASHSEED": hashes}).stdout
        for hashes in ("1", "2")
    )
    assert first == second != b""


def test_other_seeds_draw_other_tasks() -> None:
    load = SCENARIOS["steady"](Size(5, 4), 60.0)
    assert drawn(load, 1)["mail"].times != drawn(load, 2)["mail"].times
    assert drawn(load, 1) == drawn(load, 1)


def test_the_planner_is_played_as_the_manager_calls_it() -> None:
    load, size = queue(20, 0.4), Size(4, 5)
    ours = run(Load("test", (load,), 60.0), size, Planned([load.declared], size))
    assert ours.queues["q"].p99 < 1.0
    assert 8 < ours.queues["q"].slots <= 20


NOT_PLAYED = {
    "inactive", "buried", "failed", "crashed", "burials", "deleted", "dropped", "unkept", "renewed", "parked",
    "expired", "paused", "gates", "reasons",
}  # fmt: skip


def test_the_planner_is_given_every_count_that_is_played() -> None:
    load = Load("test", (queue(3, 0.5, cv=4.0, batch=20),), 600.0)
    line = Line(load.queues[0], drawn(load, 1)["q"])
    fleet = Fleet([line], Size(2, 2), Static({"q": 4}), 1)
    fleet.at(500.0, fleet.lose, 1)
    fleet.play(0.0, 600.0, Watch(load, lambda _: None))
    stats, empty = line.stats(600.0, CLOCK), QueueStats("q", 0.0)
    told = {name for name in QueueStats.__struct_fields__ if getattr(stats, name) != getattr(empty, name)}
    assert told == set(QueueStats.__struct_fields__) - NOT_PLAYED - {"name"}
    assert 0 < stats.packing.n < sum(stats.packing.took) <= stats.packs
    assert stats.packing.k < stats.done
    assert stats.packing.t < stats.busy
