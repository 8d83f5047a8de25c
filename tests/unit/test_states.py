"""The states that users and scoreboards rely on."""

import qslots
from qslots.states import SlotState, TaskState


def test_task_states_are_those_of_the_contract() -> None:
    assert {state.name: state.value for state in TaskState} == {
        name: name.lower()
        for name in ("NEW", "ENQUEUED", "CLAIMED", "PROCESSING", "SUCCESS", "RETRIABLE_FAILURE", "FATAL_FAILURE")
    }
    assert qslots.TaskState is TaskState


def test_slot_states_keep_their_numbers_for_scoreboards_of_another_version() -> None:
    assert {state.name: int(state) for state in SlotState} == {
        "ABSENT": 0, "STARTING": 1, "IDLE": 2, "TAKING": 3, "BUSY": 4, "LEAVING": 5,
    }  # fmt: skip


def test_everything_public_is_there_and_documented() -> None:
    assert all(getattr(qslots, name).__doc__ for name in qslots.__all__)
    assert qslots.__all__ == sorted(qslots.__all__)
