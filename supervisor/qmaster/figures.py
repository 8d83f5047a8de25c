"""What ``qmaster status`` says of memory to people, from the figures of its document. Pure."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from qslots.units import counted

from .bounds import megabytes

_LARGEST = 6  # queues that are named with the size of their slots


def memory_lines(answer: Mapping[str, Any]) -> list[str]:
    """How many slots fit, and why: see docs/operations.md."""
    if answer["budget"] is None:
        return ["memory: not measured yet"]
    budget, free, total, reserve, pss, swap = (
        megabytes(answer[name]) for name in ("budget", "free_memory", "total_memory", "reserve", "pss", "swap")
    )
    my_world = answer["my_world_slots"]
    beside = "" if my_world is None else f"; {my_world} by My World's formula"
    return [
        f"memory: {budget} for slots; {free} of {total} are free, {reserve} stay in reserve",
        f"mold and slots use {pss} (PSS)" + (f", {swap} of them swapped out" if answer["swap"] else ""),
        f"at most {counted(answer['max_slots'], 'slot')}, {answer['reason']}{beside}",
        f"one slot: {_sizes(answer['slot_sizes'])}{megabytes(answer['slot_size'])} of any other queue",
    ]


def _sizes(sizes: Mapping[str, int]) -> str:
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    alike = groupby(largest[:_LARGEST], key=lambda item: megabytes(item[1]))
    told = [f"{size} of {', '.join(queue for queue, _ in queues)}; " for size, queues in alike]
    if len(largest) > _LARGEST:
        told.append(f"less of {counted(len(largest) - _LARGEST, 'more queue')}; ")
    return "".join(told)
