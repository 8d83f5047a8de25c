"""What a queue is worth: table tests over readings, no clock and no server."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmanager.planning.demand import Demand, measure, staffed, unknown, utilised
from qmanager.planning.history import Samples, observe
from qslots.packtimes import PackTimes
from qslots.reports import HandlerDeclared, QueueDeclared, QueueStats
from qslots.units import figure

HANDLERS = (HandlerDeclared("resize"),)


def queue(**fields: object) -> QueueDeclared:
    return QueueDeclared("resize", handlers=HANDLERS, **fields)  # type: ignore[arg-type]


def stats(now: float, **fields: Any) -> QueueStats:
    """A reading; all that is active may be taken unless it says otherwise."""
    takeable = fields.pop("takeable", fields.get("active", 0))
    return QueueStats("resize", now, takeable=takeable, **fields)


def measured(
    *readings: QueueStats,
    running: tuple[float, ...] = (),
    slots: int = 1,
    away: int = 0,
    interval: float = 1.0,
    **fields: object,
) -> Demand:
    samples: Samples = ()
    for reading in readings:
        samples = observe(samples, reading, running=running, slots=slots)
    return measure(queue(**fields), samples, readings[-1], running=running, slots=slots, away=away, interval=interval)


def steady(rate: float, mean: float, seconds: int = 120) -> list[QueueStats]:
    """Readings of a queue that keeps up with ``rate`` tasks a second of ``mean`` seconds."""
    done = [int(rate * second) for second in range(seconds)]
    return [stats(1000.0 + i, taken=n, put=n, done=n, busy=n * mean) for i, n in enumerate(done)]


def test_nothing_known_is_worth_nothing() -> None:
    assert unknown(queue()).wanted == 0
    assert measured(stats(1.0)).wanted == 0


def test_minimum_holds_without_statistics() -> None:
    assert unknown(queue(min_slots=3)).wanted == 3


def test_steady_queue_wants_arrivals_times_mean_time_over_utilisation() -> None:
    demand = measured(*steady(10, 0.5), slots=7)
    assert demand.arrivals == pytest.approx(10, rel=0.05)
    assert demand.mean_time == pytest.approx(0.5)
    assert demand.wanted == pytest.approx(10 * 0.5 / 0.8, rel=0.05)
    assert demand.load == pytest.approx(5 / 7, rel=0.05)
    assert demand.rate == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize(
    ("rate", "slots", "share"),
    [(1, 1.25, "80% busy"), (36, 45, "80% busy"), (100, 115, "87% busy"), (400, 430, "93% busy")],
)
def test_many_slots_need_less_headroom_than_few(rate: int, slots: float, share: str) -> None:
    demand = measured(*steady(rate, 1.0), running=(0.0,) * rate, slots=int(slots))
    assert demand.wanted == pytest.approx(slots, rel=0.01)
    assert demand.reason == f"{rate}/s arrive, 1 s each: {figure(demand.wanted)} at {share}"


@pytest.mark.parametrize(("priority", "headroom"), [(1, 15.0), (50, 15.0), (65, 18.0), (80, 21.0), (100, 25.0)])
def test_urgent_queues_have_more_headroom(priority: int, headroom: float) -> None:
    assert staffed(100.0, priority) == pytest.approx(100 + headroom)


BUSY = st.floats(0.0, 1e6)
PRIORITIES = st.integers(1, 100)


@given(BUSY, BUSY, PRIORITIES)
def test_headroom_grows_with_the_load_less_than_in_proportion(one: float, other: float, priority: int) -> None:
    low, high = sorted((one, other))
    assert low <= staffed(low, priority) <= staffed(high, priority) + 1e-9
    assert staffed(low, priority) - low <= (staffed(high, priority) - high) * (1 + 1e-6) + 1e-9
    assert utilised(low, priority) <= utilised(high, priority) + 1e-9
    assert utilised(high, priority) <= 1.0


@given(BUSY, PRIORITIES, PRIORITIES)
def test_headroom_grows_with_the_priority_within_bounds(busy: float, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert staffed(busy, low) <= staffed(busy, high)
    assert 0.7 <= utilised(busy, high) <= utilised(busy, low)
    assert utilised(busy, low) >= 0.8 - 1e-9 or low > 50


def test_backlog_wants_to_be_done_within_target_delay_and_loads_above_one() -> None:
    readings = [*steady(1, 1.0), stats(1120.0, taken=120, done=119, busy=119.0, active=100)]
    demand = measured(*readings, target_delay=10.0)
    assert demand.wanted >= 100 * 1.0 / 10
    assert demand.load is not None and demand.load > 1
    assert "100 waiting" in demand.reason


@pytest.mark.parametrize(
    ("mean", "interval", "target_delay", "within"),
    [(1.0, 1.0, 10.0, 10.0), (1.0, 5.0, 0.5, 10.0), (1.0, 1.0, 0.5, 2.0), (20.0, 1.0, 0.5, 20.0)],
)
def test_what_waits_is_to_be_done_within_target_delay_two_intervals_or_one_run(
    mean: float, interval: float, target_delay: float, within: float
) -> None:
    readings = [*steady(1, mean), stats(1120.0, taken=119, done=119, busy=119 * mean, active=100)]
    demand = measured(*readings, slots=100, interval=interval, target_delay=target_delay)
    assert f"to be done in {within:g} s: {100 * mean / within:g} more" in demand.reason


def test_load_is_null_without_a_slot() -> None:
    assert measured(stats(1.0, active=5), slots=0).load is None


def test_cold_start_with_a_backlog_begins_with_one_slot_and_doubles() -> None:
    def readings(now: float) -> QueueStats:
        return stats(now, active=100_000, oldest=now)

    assert measured(readings(1.0), slots=0).wanted == 1
    running, wanted = 1, []
    for age in range(1, 8):
        demand = measured(readings(float(age)), running=(float(age),) * running, slots=running)
        wanted.append(demand.wanted)
        running = int(demand.wanted)
    assert wanted == [2, 4, 8, 16, 32, 64, 128]


def test_long_task_counts_while_it_runs() -> None:
    demand = measured(stats(1.0, active=1, taken=3), running=(600.0, 300.0, 10.0), slots=3)
    assert demand.mean_time == 600


def test_mean_time_does_not_swing_when_the_first_of_many_long_tasks_ends() -> None:
    demand = measured(stats(5000.0, taken=12, done=1, busy=1800.0), running=(1799.0,) * 11, slots=12)
    assert demand.mean_time == pytest.approx(1800, rel=0.01)


def test_mean_time_of_an_old_queue_is_known_to_a_new_manager() -> None:
    assert measured(stats(9.0, taken=1000, done=1000, busy=250.0)).mean_time == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("fields", "running", "reason"),
    [
        ({}, (), "nothing to do"),
        (
            {"active": 1},
            (),
            "0.0667/s arrive, 0.0515 s each: 0.00429 at 80% busy; 1 waiting, to be done in 5 s: 0.0103 more",
        ),
        ({}, (0.01,), "0.0667/s arrive, 0.0515 s each: 0.00429 at 80% busy"),
    ],
)
def test_reason_is_plain_where_nothing_worth_a_slot_happens(
    fields: dict[str, float], running: tuple[float, ...], reason: str
) -> None:
    before = stats(1000.0, taken=100, done=100, busy=5.15)
    waiting = int(fields.get("active", 0))
    after = stats(1060.0, taken=104 - waiting, done=104 - waiting, busy=(104 - waiting) * 0.0515, **fields)
    assert measured(before, after, running=running).reason == reason


@pytest.mark.parametrize(
    ("long", "running", "expected"),
    [
        pytest.param(2, (), 0.5, id="two of a hundred take a minute"),
        pytest.param(10, (), 60.0, id="ten of a hundred do"),
        pytest.param(0, (300.0, 400.0), 0.5, id="two that run are few"),
        pytest.param(0, (300.0,) * 10, 300.0, id="ten that run count"),
    ],
)
def test_long_runs_count_from_one_of_twenty_on(long: int, running: tuple[float, ...], expected: float) -> None:
    took = {f"took:{int(0.4e6).bit_length()}": 100 - long, f"took:{int(60e6).bit_length()}": long}
    after = stats(1060.0, taken=100, done=100, busy=50.0, packing=PackTimes.counted(took))
    demand = measured(stats(1000.0), after, running=running)
    assert demand.p95 == pytest.approx(expected, rel=0.25)
    assert demand.run_time == demand.p95


def test_run_time_of_a_queue_without_any_run_is_that_of_its_running_task() -> None:
    assert measured(stats(1.0, taken=1), running=(40.0,)).p95 == 40.0
    assert measured(stats(1.0)).p95 is None


def test_overdue_task_is_worth_a_slot_of_its_own() -> None:
    readings = [*steady(0.01, 0.01), stats(1120.0, taken=20, done=20, busy=0.2, active=1, oldest=6.0)]
    assert measured(*readings, target_delay=5.0).wanted == 1
    assert measured(*readings, target_delay=7.0).wanted < 0.1


@pytest.mark.parametrize("interval", [0.5, 1.0, 5.0])
def test_who_is_in_a_hurry_is_so_however_long_the_managers_cycle(interval: float) -> None:
    rise = stats(1000.0 + 120 + interval, taken=1200, put=2000, done=1200, busy=600.0, active=800)
    patient, hurried = (
        measured(*steady(10, 0.5), rise, slots=7, interval=interval, target_delay=target).arrivals
        for target in (9.0, 1.0)
    )
    assert hurried > 100 > 4 * patient


def test_a_queue_that_is_to_wait_for_nothing_is_late_as_soon_as_it_waits() -> None:
    assert Demand(queue(target_delay=0.0), 1.0, "").late == 0.0
    assert Demand(queue(target_delay=0.0), 1.0, "", waits=0.01).haste == 1.0


@pytest.mark.parametrize(
    ("oldest", "waiting", "target_delay", "late"),
    [
        (0.0, 0, 10.0, 0.0),
        (5.0, 1, 10.0, 0.0),  # it has half of its time left
        (7.5, 1, 10.0, 0.5),
        (60.0, 1, 10.0, 1.0),
        (0.1, 90, 10.0, 0.0),  # the newest of them will wait for 15 s, but there is time to wait and see
        (0.1, 90, 2.0, 1.0),
        (0.1, 9, 2.0, 0.5),
    ],
)
def test_a_queue_is_late_from_half_of_its_target_delay_on(
    oldest: float, waiting: int, target_delay: float, late: float
) -> None:
    *readings, last = steady(10, 0.5)
    reading = msgspec.structs.replace(last, active=waiting, takeable=waiting, oldest=oldest)
    demand = measured(*readings, reading, slots=7, away=4, target_delay=target_delay)
    assert demand.late == pytest.approx(late)
    assert demand.away == 4


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [({"max_slots": 3}, 3), ({"min_slots": 40}, 40), ({"min_slots": 4, "max_slots": 2}, 2), ({"max_slots": 0}, 0)],
)
def test_min_and_max_bound_it(fields: dict[str, int], wanted: float) -> None:
    assert measured(*steady(10, 1.0), **fields).wanted == wanted


def test_no_more_slots_than_tasks_can_use() -> None:
    demand = measured(*steady(0.2, 30.0), slots=9)
    assert demand.wanted == 6  # 7.5 by the formula, and six tasks arrive while one runs
    assert demand.reason.endswith("; 6 tasks can use no more")


def test_queue_without_a_handler_is_worth_nothing() -> None:
    bare = QueueDeclared("resize", min_slots=2)
    assert unknown(bare).wanted == 0
    assert not unknown(bare).served


def test_counters_that_go_back_start_a_new_history() -> None:
    samples = observe((), stats(1.0, taken=100, done=100), slots=1)
    assert len(observe(samples, stats(2.0, taken=3, done=2), slots=1)) == 1
    assert observe(samples, stats(1.0, taken=100, done=100), slots=1) is samples


def test_history_of_a_day_stays_short_and_keeps_its_beginning() -> None:
    samples: Samples = ()
    for second in range(0, 80_000, 20):
        samples = observe(samples, stats(float(second), done=second), slots=1)
    assert len(samples) < 300
    assert samples[0].now < 12_000


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1e6)), min_size=1, max_size=8),
    st.lists(st.floats(0, 1e6), max_size=5),
    st.integers(0, 9),
    st.one_of(st.none(), st.integers(0, 99)),
)
def test_any_readings_give_a_demand_within_min_and_max(
    readings: list[tuple[int, int, float]], running: list[float], least: int, most: int | None
) -> None:
    history = [
        stats(float(now), active=active, taken=done, done=done, busy=busy)
        for now, (active, done, busy) in enumerate(readings)
    ]
    demand = measured(*history, running=tuple(running), min_slots=least, max_slots=most)
    top = float("inf") if most is None else most
    assert min(least, top) <= demand.wanted <= top
    assert demand.arrivals >= 0
    assert demand.load is None or demand.load >= 0
    assert demand.reason


def test_a_hundred_thousand_behind_a_rate_want_what_the_rate_needs() -> None:  # case 40
    readings = [*steady(10, 0.5), stats(1120.0, taken=1200, done=1200, busy=600.0, active=100_000, takeable=10)]
    demand = measured(*readings, rate=10.0, slots=6)
    assert demand.wanted == 5
    assert demand.reason.endswith("; its rate of 10/s needs no more than 5")


def test_a_rate_leaves_one_slot_whatever_its_tasks_take() -> None:
    readings = [*steady(1, 0.01), stats(1120.0, taken=120, done=120, busy=1.2, active=9, takeable=9, oldest=60.0)]
    assert measured(*readings, rate=0.01).wanted == 1


def test_tasks_that_may_not_be_taken_are_worth_nothing() -> None:  # case 40
    parked = measured(*steady(0.001, 1.0), stats(1120.0, active=100_000, takeable=0, oldest=1e5, parked=7))
    assert parked.wanted < 0.1
    assert measured(stats(1.0, active=5, takeable=0)).wanted == 0
    assert measured(stats(1.0, active=5, takeable=0), slots=3).load == 0


def test_a_paused_queue_wants_nothing_but_its_minimum_however_much_just_came() -> None:
    readings = [
        *steady(10, 0.5),
        stats(1120.0, taken=1200, done=1200, busy=600.0, active=5000, takeable=0, paused=True),
    ]
    assert (measured(*readings).wanted, measured(*readings).reason) == (0, "paused")
    assert (measured(*readings, min_slots=2).wanted, measured(*readings, min_slots=2).reason) == (2, "paused; min 2")


def test_what_other_gates_hold_back_is_told() -> None:
    demand = measured(*steady(10, 0.5), stats(1120.0, taken=1200, done=1200, busy=600.0, gates=("collection:spring",)))
    assert demand.wanted > 5
    assert demand.reason.endswith("; held back: collection:spring")


def test_tasks_that_a_gate_lets_go_arrive_then() -> None:
    held = [stats(1000.0 + second, active=600, takeable=0, done=100, busy=10.0, taken=100) for second in range(120)]
    assert measured(*held).arrivals == 0
    assert measured(*held, stats(1120.0, active=600, done=100, busy=10.0, taken=100)).arrivals == pytest.approx(10)
