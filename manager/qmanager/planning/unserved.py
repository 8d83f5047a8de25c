"""Tasks of handlers that no living server knows: a producer is newer than the fleet, or a handler was taken out. Pure.

They stay where they are, and nobody is asked to work on them: they are counted apart, and told of, until a generation
that knows their handler is there.
"""

from collections.abc import Container, Mapping

import msgspec

from qslots.reports import QueueStats


def unserved(stats: QueueStats, known: Container[str]) -> dict[str, int]:
    """handler -> its tasks that wait, due or not, of handlers that are not among the known."""
    waiting = {each.name: each.active + each.inactive for each in stats.handlers if each.name not in known}
    return {name: tasks for name, tasks in waiting.items() if tasks}


def servable(stats: QueueStats, known: Container[str]) -> QueueStats:
    """The counts as demand may look at them: of known handlers whose gates are open."""
    if not stats.handlers:
        return stats
    mine = [each for each in stats.handlers if each.name in known and each.open]
    takeable = min(stats.takeable, sum(each.active for each in mine))
    return msgspec.structs.replace(stats, takeable=takeable, oldest=max((each.oldest for each in mine), default=0.0))


def in_words(waiting: Mapping[str, int]) -> str:
    """What to say of them; "" if there are none."""
    return ", ".join(
        f"{tasks:,} task{' of handler ' + name + ' waits' if tasks == 1 else 's of handler ' + name + ' wait'}, "
        "no server knows it"
        for name, tasks in sorted(waiting.items())
    )
