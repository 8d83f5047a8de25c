"""The lines of ``qmaster status`` that tell how many slots fit, and why."""

from qmaster.figures import memory_lines

M = 1 << 20


def test_before_the_first_measurement_there_is_nothing_to_say() -> None:
    assert memory_lines({"budget": None}) == ["memory: not measured yet"]


def test_all_figures_stand_side_by_side() -> None:
    answer = {
        "budget": 1204 * M, "free_memory": 1560 * M, "total_memory": 4000 * M, "reserve": 400 * M, "pss": 320 * M,
        "swap": 0, "max_slots": 52, "reason": "bound by memory: 1,204 MB / 23 MB a slot", "my_world_slots": 13,
        "slot_sizes": {"mail": 10 * M, "video": 124 * M}, "slot_size": 256 * M,
    }  # fmt: skip
    assert memory_lines(answer) == [
        "memory: 1,204 MB for slots; 1,560 MB of 4,000 MB are free, 400 MB stay in reserve",
        "mold and slots use 320 MB (PSS)",
        "at most 52 slots, bound by memory: 1,204 MB / 23 MB a slot; 13 by My World's formula",
        "one slot: 124 MB of video; 10 MB of mail; 256 MB of any other queue",
    ]
    assert memory_lines({**answer, "swap": 7 * M})[1] == "mold and slots use 320 MB (PSS), 7 MB of them swapped out"
    many = {**answer, "slot_sizes": {f"q{n}": n // 3 * M for n in range(9)}, "my_world_slots": None}
    assert memory_lines(many)[2].endswith("23 MB a slot")
    assert memory_lines(many)[3] == (
        "one slot: 2 MB of q6, q7, q8; 1 MB of q3, q4, q5; less of 3 more queues; 256 MB of any other queue"
    )
