"""Which generation is in force, which comes and goes: events and times -> what is to be done."""

import copy
import itertools

import pytest

from qmaster.children import QUICK
from qmaster.generations import (
    AGAIN,
    DEADLY,
    DEAF,
    ROOM_WITHIN,
    TRIAL,
    Action,
    Cause,
    End,
    Free,
    Generations,
    Prove,
    Refuse,
    Room,
    Start,
    State,
    Tally,
    View,
    decide,
)

MB = 1 << 20
AMPLE = Room(spare=1000 * MB, needed=100 * MB)
TIGHT = Room(spare=60 * MB, needed=100 * MB)
TIMEOUT = 300.0


def view(*tallies: Tally, room: Room | None = AMPLE) -> View:
    """The slots of generation 1, 2, …"""
    return View(dict(enumerate(tallies, 1)), room, TIMEOUT)


def perform(state: Generations, action: Action, now: float) -> None:
    """What the shell does, as far as the state hears of it."""
    match action:
        case Start(cause):
            state.started(cause, now)
        case Prove(number):
            state.proven(number)
        case End(number, why, failed):
            state.ended(number, why, failed=failed)
        case Free():
            state.freeing(now)
        case Refuse(why):
            state.refused(why)


def settle(state: Generations, seen: View, now: float) -> list[Action]:
    """All that follows, done; it comes to an end."""
    done: list[Action] = []
    while actions := [each for each in decide(state, seen, now) if not isinstance(each, Free)]:
        for action in actions:
            perform(state, action, now)
        done += actions
        assert len(done) < 10, done
    return done


def running() -> Generations:
    """Generation 1 at work, and proven."""
    state = Generations()
    state.loaded(state.started(Cause.START, 0.0), 1.0)
    assert settle(state, view(Tally(2, worked=True)), 2.0) == [Prove(1)]
    return state


def replacing() -> Generations:
    """Generation 2 ready, generation 1 with two slots still."""
    state = running()
    state.ask(Cause.RELOAD)
    settle(state, view(Tally(2, worked=True)), 10.0)
    state.loaded(2, 11.0)
    return state


OLD, NONE = Tally(2, worked=True), Tally()


def test_a_reload_from_end_to_end() -> None:
    state = running()
    state.ask(Cause.RELOAD)
    assert settle(state, view(OLD), 10.0) == [Start(Cause.RELOAD)]
    assert (state.present, state.can_fork, state.two) == (1, True, True)
    state.loaded(2, 11.0)
    assert (state.present, state.can_fork) == (2, True)
    assert settle(state, view(OLD, Tally(1)), 12.0) == []
    assert settle(state, view(NONE, Tally(2)), 13.0) == []  # nothing finished yet: the old mold may be needed
    assert settle(state, view(NONE, Tally(2, worked=True)), 14.0) == [
        Prove(2), End(1, "generation 2 has taken over", failed=False),
    ]  # fmt: skip
    assert state.two
    state.gone(1, "was killed", 14.1)
    assert not state.two
    assert state.succeeded(view(NONE, Tally(2, worked=True)), 14.1)


def test_the_old_mold_stays_while_one_of_its_slots_does() -> None:
    state = replacing()
    assert settle(state, view(Tally(1, worked=True, oldest=7200.0), Tally(1, worked=True)), 9000.0) == [Prove(2)]
    assert state.molds[1].state is State.PROVEN


def test_where_there_is_nothing_to_do_time_proves() -> None:
    state = replacing()
    idle = view(NONE, Tally(2))
    state.born(2, 12.0)
    assert decide(state, idle, 12.0 + TRIAL - 1) == []
    assert not state.succeeded(idle, 12.0 + QUICK - 1)
    assert state.succeeded(idle, 12.0 + QUICK)
    assert settle(copy.deepcopy(state), idle, 12.0 + TRIAL)[0] == Prove(2)
    state.ask(Cause.RELOAD)
    assert settle(state, idle, 12.0 + QUICK)[0] == Prove(2)


def test_time_does_not_prove_what_has_no_slot_while_the_older_one_has() -> None:
    assert decide(replacing(), view(OLD, NONE), 1e6) == []
    assert decide(replacing(), view(NONE, NONE), 1e6) == [Prove(2)]


@pytest.mark.parametrize("how", ["import failed", "was killed by SIGKILL"])
def test_what_does_not_load_leaves_the_old_one_at_work(how: str) -> None:
    state = running()
    state.ask(Cause.RELOAD)
    settle(state, view(OLD), 10.0)
    state.gone(2, how, 11.0)
    assert (state.present, state.can_fork, state.two, state.again_at, state.dropped) == (1, True, False, None, {})
    assert state.outcome is not None
    assert (state.outcome.done, state.outcome.why) == (False, how)
    assert decide(state, view(OLD), 99.0) == []


def test_a_mold_that_loads_for_ever_is_given_up() -> None:
    state = running()
    state.ask(Cause.RELOAD)
    settle(state, view(OLD), 10.0)
    assert decide(state, view(OLD), 10.0 + TIMEOUT - 1) == []
    [end] = settle(state, view(OLD), 10.0 + TIMEOUT)
    assert isinstance(end, End)
    assert end.failed
    assert "server.load_timeout" in end.why
    assert state.present == 1
    state.loaded(2, 311.0)  # it says so all the same: too late
    assert state.present == 1
    state.gone(2, "was killed", 311.0)
    assert (state.can_fork, state.again_at) == (True, None)
    assert state.outcome is not None
    assert state.outcome.why == end.why


def test_the_first_mold_is_given_up_too_and_there_is_nothing_to_return_to() -> None:
    state = Generations()
    state.started(Cause.START, 0.0)
    assert [type(each) for each in settle(state, view(), TIMEOUT)] == [End]
    assert (state.present, state.can_fork) == (0, False)


def test_a_generation_whose_slots_die_at_birth_is_dropped() -> None:
    state = replacing()
    for moment in range(DEADLY):
        assert decide(state, view(OLD, Tally(1)), 12.0 + moment) == []
        state.died(2, 12.0 + moment, at_birth="exited with code 3", worked=False)
    why = "3 of its slots died at birth, the last one exited with code 3"
    assert settle(state, view(OLD, Tally(1)), 20.0) == [End(2, why, failed=True)]
    assert (state.present, state.can_fork) == (1, True)
    assert state.dropped == {2: why}
    state.gone(2, "was killed by SIGKILL", 20.1)
    assert (state.can_fork, state.again_at) == (True, None)
    assert state.outcome is not None
    assert (state.outcome.done, state.outcome.why) == (False, why)
    state.ask(Cause.RELOAD)
    assert settle(state, view(OLD, Tally(1)), 30.0) == [Start(Cause.RELOAD)]
    assert state.last == 3


def test_one_that_has_finished_a_task_is_not() -> None:
    state = replacing()
    state.died(2, 12.0, at_birth="", worked=True)
    for _ in range(DEADLY + 1):
        state.died(2, 12.0, at_birth="exited with code 3", worked=False)
    assert settle(state, view(OLD, NONE), 13.0) == [Prove(2)]


def test_nor_one_that_has_no_other_to_return_to() -> None:
    state = Generations()
    state.loaded(state.started(Cause.START, 0.0), 1.0)
    for _ in range(DEADLY + 1):
        state.died(1, 2.0, at_birth="exited with code 3", worked=False)
    assert decide(state, view(NONE), 3.0) == []


def test_a_mold_that_does_not_fork_is_replaced() -> None:
    state = running()
    state.not_born(1)
    state.born(1, 3.0)
    for _ in range(DEAF):
        assert decide(state, view(OLD), 4.0) == []
        state.not_born(1)
    [end] = settle(state, view(OLD), 5.0)
    assert isinstance(end, End)
    assert not state.can_fork
    state.gone(1, "was killed by SIGKILL", 6.0)
    assert decide(state, view(OLD), 6.0 + AGAIN - 1) == []
    assert settle(state, view(OLD), 6.0 + AGAIN) == [Start(Cause.REPLACEMENT)]


def test_a_mold_that_was_killed_is_made_again_until_one_loads_and_its_slots_give_way() -> None:
    state = running()
    state.gone(1, "was killed by SIGKILL", 5.0)
    assert (state.present, state.can_fork) == (1, False)
    assert settle(state, view(OLD, room=TIGHT), 5.0 + AGAIN) == [Start(Cause.REPLACEMENT)]  # whatever room there is
    state.gone(2, "import failed", 20.0)
    assert (state.present, decide(state, view(OLD), 20.0)) == (1, [])
    assert settle(state, view(OLD), 20.0 + AGAIN) == [Start(Cause.REPLACEMENT)]
    state.loaded(3, 30.0)
    assert (state.present, state.can_fork, state.two) == (3, True, False)


def test_the_old_mold_killed_during_a_reload_changes_nothing() -> None:
    state = replacing()
    state.gone(1, "was killed by SIGKILL", 12.0)
    assert (state.present, state.can_fork, state.again_at, state.two) == (2, True, None, False)
    assert state.dropped == {}


def test_the_old_mold_killed_while_the_new_one_loads() -> None:
    state = running()
    state.ask(Cause.RELOAD)
    settle(state, view(OLD), 10.0)
    state.gone(1, "was killed by SIGKILL", 11.0)
    assert (state.can_fork, state.again_at) == (False, None)  # the next is under way
    state.gone(2, "import failed", 12.0)
    assert settle(state, view(OLD), 12.0 + AGAIN) == [Start(Cause.REPLACEMENT)]


def test_the_new_mold_killed_before_it_was_proven_gives_the_old_one_its_place_back() -> None:
    state = replacing()
    state.gone(2, "was killed by SIGKILL", 12.0)
    assert (state.present, state.can_fork, state.again_at) == (1, True, None)
    assert state.dropped == {2: "was killed by SIGKILL"}


def test_the_new_mold_killed_after_that_is_made_again_while_the_old_one_waits_for_its_slots() -> None:
    state = replacing()
    settle(state, view(OLD, Tally(1, worked=True)), 12.0)
    state.gone(2, "was killed by SIGKILL", 13.0)
    assert (state.present, state.can_fork) == (2, False)  # old code does not come back
    assert settle(state, view(OLD, Tally(1)), 13.0 + AGAIN) == [Start(Cause.REPLACEMENT)]
    assert len(state.molds) == 2
    state.loaded(3, 20.0)
    seen = view(NONE, NONE, Tally(2, worked=True))
    assert settle(state, seen, 21.0) == [Prove(3), End(1, "generation 3 has taken over", failed=False)]


def test_a_second_reload_is_remembered_until_the_older_mold_is_gone() -> None:
    state = replacing()
    seen = view(Tally(2, worked=True, oldest=5400.0), Tally(1, worked=True))
    for _ in range(2):
        state.ask(Cause.RELOAD)
        assert not any(isinstance(each, Start) for each in settle(state, seen, 12.0))
    assert state.waits_for(seen) == "2 slots of generation 1, the oldest task runs for 5400 s"
    done = view(NONE, Tally(2, worked=True))
    assert settle(state, done, 20.0) == [End(1, "generation 2 has taken over", failed=False)]
    assert decide(state, done, 20.0) == []  # not reaped yet: it would be the third
    state.gone(1, "was killed by SIGKILL", 20.1)
    assert settle(state, done, 20.1) == [Start(Cause.RELOAD)]
    assert (state.asked, len(state.molds)) == (None, 2)


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        (Cause.REFORK, Cause.RELOAD, Cause.RELOAD),
        (Cause.RELOAD, Cause.REFORK, Cause.RELOAD),
        (Cause.REFORK, Cause.REFORK, Cause.REFORK),
    ],
)
def test_of_two_that_wait_the_stronger_one_stands(first: Cause, second: Cause, stands: Cause) -> None:
    state = replacing()
    state.ask(first)
    state.ask(second)
    assert state.asked is not None
    assert state.asked.cause is stands


def test_a_reload_while_a_mold_loads_waits_for_it() -> None:
    state = Generations()
    state.started(Cause.START, 0.0)
    state.ask(Cause.RELOAD)
    assert decide(state, view(), 1.0) == []
    assert state.waits_for(view()) == "generation 1 is loading"
    state.loaded(1, 2.0)
    assert settle(state, view(), 2.0) == [Start(Cause.RELOAD)]


def test_a_reload_takes_the_place_of_a_replacement_that_is_due_later() -> None:
    state = running()
    state.gone(1, "was killed by SIGKILL", 5.0)
    state.ask(Cause.RELOAD)
    assert settle(state, view(OLD, room=None), 5.1) == [Start(Cause.RELOAD)]


def test_room_is_made_first_and_a_reload_refused_if_there_is_none() -> None:
    state = running()
    state.ask(Cause.RELOAD)
    assert decide(state, view(OLD, room=None), 10.0) == []  # nothing measured yet
    [free] = decide(state, view(OLD, room=TIGHT), 10.0)
    assert free == Free(40 * MB)
    perform(state, free, 10.0)
    assert decide(state, view(OLD, room=TIGHT), 10.0 + ROOM_WITHIN - 1) == [free]
    assert "40 MB are missing" in state.waits_for(view(OLD, room=TIGHT))
    assert decide(state, view(OLD, room=AMPLE), 10.0 + ROOM_WITHIN - 1) == [Start(Cause.RELOAD)]
    [refuse] = settle(state, view(OLD, room=TIGHT), 10.0 + ROOM_WITHIN)
    assert isinstance(refuse, Refuse)
    assert "needs 100 MB and 60 MB are free" in refuse.why
    assert (state.asked, decide(state, view(OLD, room=TIGHT), 99.0)) == (None, [])
    assert state.outcome is not None
    assert (state.outcome.done, state.outcome.number) == (False, None)


TO_MOLDS = ("ask", "load", "refuse", "kill old", "kill new", "late")
TO_SLOTS = ("die", "work", "leave", "deaf")


def to_molds(state: Generations, event: str, tallies: dict[int, Tally], now: float) -> None:
    living = [number for number, mold in state.molds.items() if mold.state is not State.ENDING]
    loading = [number for number in living if state.molds[number].state is State.LOADING]
    match event:
        case "ask":
            state.ask(Cause.RELOAD)
        case "load" if loading:
            state.loaded(loading[0], now)
            tallies[loading[0]] = Tally(1)
        case "refuse" if loading:
            state.gone(loading[0], "import failed", now)
        case "kill old" if len(living) > 1:
            state.gone(living[0], "was killed", now)
        case "kill new" if living:
            state.gone(living[-1], "was killed", now)


def to_slots(state: Generations, event: str, tallies: dict[int, Tally], now: float) -> None:
    match event:
        case "die":
            for _ in range(DEADLY):
                state.died(state.present, now, at_birth="exited with code 3", worked=False)
        case "work" if state.present in tallies:
            tallies[state.present] = Tally(1, worked=True)
        case "leave":
            for number in tallies.keys() - {state.present}:
                tallies[number] = Tally()
        case "deaf":
            for _ in range(DEAF):
                state.not_born(state.present)


def interrupted(state: Generations, seen: View, now: float) -> None:
    """A plan of which only the first part was done, made again, comes to an end too."""
    for part in range(3):
        other = copy.deepcopy(state)
        for action in decide(other, seen, now)[:part]:
            perform(other, action, now)
        settle(other, seen, now)
        assert len(other.molds) <= 2


def come_to_rest(state: Generations, tallies: dict[int, Tally], now: float) -> None:
    for _ in range(5):
        now += AGAIN
        settle(state, View(tallies, AMPLE, TIMEOUT), now)
        for number, mold in list(state.molds.items()):
            if mold.state is State.ENDING:
                state.gone(number, "was killed", now)
            elif mold.state is State.LOADING:
                state.loaded(number, now)


def test_whatever_happens_there_are_two_molds_at_most_and_one_serves_in_the_end() -> None:
    for course in itertools.permutations(TO_MOLDS + TO_SLOTS, 3):
        state, tallies, now = running(), {1: Tally(2, worked=True)}, 10.0
        state.ask(Cause.RELOAD)
        for event in course:
            now += TIMEOUT if event == "late" else 0.1
            seen = View(tallies, AMPLE, TIMEOUT)
            interrupted(state, seen, now)
            settle(state, seen, now)
            assert len(state.molds) <= 2, course
            assert state.molds or state.again_at is not None, course
            to_molds(state, event, tallies, now)
            to_slots(state, event, tallies, now)
        come_to_rest(state, tallies, now)
        assert state.can_fork, course
