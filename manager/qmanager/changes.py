"""The changes of a map in words: one line that sums them up, and the lines behind it. Pure."""

from collections import Counter
from collections.abc import Sequence

from qslots.units import counted

from .planning.grant import Names
from .planning.placement import Change

MOST_QUEUES = 6  # that the line names
MOST_LINES = 50  # behind it


def summary(changes: Sequence[Change]) -> str:
    """How many slots of how many servers change, and which queues gain or lose most by it."""
    net: Counter[str] = Counter()
    for change in changes:
        net.update(change.after)
        net.subtract(change.before)
    moved = sorted((name for name in net if net[name]), key=lambda name: (-abs(net[name]), name))
    parts = [f"{name} {net[name]:+,}" for name in moved[:MOST_QUEUES]]
    if len(moved) > MOST_QUEUES:
        parts.append(f"{counted(len(moved) - MOST_QUEUES, 'other queue')}")
    if len(net) > len(moved):
        parts.append(f"{counted(len(net) - len(moved), 'queue')} only moved")
    many = f"{counted(len(changes), 'slot')} of {counted(len({change.server for change in changes}), 'server')}"
    return f"{many} changed: {', '.join(parts) or 'emptied'}"


def told(changes: Sequence[Change]) -> list[str]:
    """One line for all slots of a server that change alike, so many lines at most."""
    alike: dict[tuple[str, Names, Names, str], list[int]] = {}
    for change in changes:
        alike.setdefault((change.server, change.before, change.after, change.reason), []).append(change.index)
    lines = []
    for (server, before, after, reason), indexes in alike.items():
        which = f"slot {indexes[0]}" if len(indexes) == 1 else f"slots {spans(indexes)}"
        lines.append(f"{server} {which}: {','.join(before) or 'none'} -> {','.join(after) or 'none'} ({reason})")
    if len(lines) > MOST_LINES:
        left = sum(len(indexes) for indexes in list(alike.values())[MOST_LINES:])
        return [*lines[:MOST_LINES], f"and {counted(left, 'more slot')}"]
    return lines


def spans(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 as "0-2, 5"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
