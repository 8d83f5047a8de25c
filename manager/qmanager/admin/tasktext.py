"""One task for people: as a line of a list, as a table of its own. Pure but for the local time zone.

Ids, arguments and errors come from outside: what cannot be printed is shown as ?, and nothing is taken for markup.
"""

import datetime
import typing

from rich.console import RenderableType

from qslots.queries import TaskInfo
from qslots.states import TaskState

from ..figures import NOTHING, seconds
from .tables import facts

AFTERWARDS = {"gone": "deleted", "rearm": "run once more", "replace": "run as it was replaced"}
SHORT = 60  # characters of arguments and of an error in a list
LONG = 500  # and of arguments and of a result in the table of one task
HINT = " (all of it with --json)"


def line(info: TaskInfo, now: float) -> str:
    """One task of a list; ``now`` is the queue server's clock."""
    parts = [f"{printable(info.id):23}", f"{info.state.value:17}", f"{info.queue}/{called(info, SHORT)}"]
    parts += [each for each in (_when(info, now), _trouble(info)) if each]
    return "  ".join(parts)


def table(info: TaskInfo, now: float) -> RenderableType:
    """Everything of one task."""
    return facts((name, printable(value, keep="\n")) for name, value in _rows(info, now))


def _rows(info: TaskInfo, now: float) -> typing.Iterator[tuple[str, str]]:
    yield "task", info.id
    yield "state", info.state.value + (f", {when}" if (when := _when(info, now)) else "")
    yield "queue", f"{info.queue} on {info.server}"
    yield "handler", called(info, LONG, HINT)
    if info.collection:
        yield "collection", info.collection
    if info.put_at is not None:
        yield "put", f"{moment(info.put_at)} ({seconds(max(0.0, now - info.put_at))} ago)"
    if info.due_at is not None:
        yield "due", moment(info.due_at)
    yield (
        "trouble",
        (
            f"{info.failures} failures, {info.crashes} crashes, {info.losses} losses, {info.retries} retries"
            if info.failures or info.crashes or info.losses or info.retries
            else NOTHING
        ),
    )
    if info.last_error:
        yield "last error", info.last_error.rstrip()
    if info.finished_at is not None:
        yield "finished", moment(info.finished_at)
        yield "result", _cut(repr(info.result), LONG, HINT)


def called(info: TaskInfo, most: int, hint: str = "") -> str:
    """The call as it would be written; of a finished task, whose arguments are gone, the handler alone."""
    if info.finished_at is not None:
        return printable(info.handler)
    named = (f"{name}={arg!r}" for name, arg in info.kwargs.items())
    return f"{printable(info.handler)}({_cut(', '.join([*map(repr, info.args), *named]), most, hint)})"


def moment(instant: float) -> str:
    """A time of the queue server, in this machine's time zone."""
    return datetime.datetime.fromtimestamp(instant).astimezone().isoformat(" ", "seconds")


def printable(text: str, keep: str = "") -> str:
    """The text without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() or char in keep else "?" for char in text)


def _when(info: TaskInfo, now: float) -> str:
    """What happens to it or will, and when."""
    if info.locked:
        return _who(info) + (f", then {AFTERWARDS.get(info.afterwards, info.afterwards)}" if info.afterwards else "")
    if info.parked:
        return "parked: its collection is paused"
    if info.finished_at is not None:
        return f"finished {seconds(max(0.0, now - info.finished_at))} ago"
    if info.due_at is None or info.state is TaskState.FATAL_FAILURE:
        return ""
    away = info.due_at - now
    return f"due in {seconds(away)}" if away > 0 else f"due for {seconds(-away)}"


def _who(info: TaskInfo) -> str:
    if info.owner is None:
        return "locked"
    slot = info.owner.slot
    return f"taken on {info.owner.server}" if slot is None else f"in slot {info.owner.server}/{slot}"


def _trouble(info: TaskInfo) -> str:
    """How often it failed and how the last time, in few words: the last line of a traceback says most."""
    last = info.last_error.strip().rpartition("\n")[2]
    times = f"failed {info.failures}x" if info.failures else f"crashed {info.crashes}x" if info.crashes else ""
    return ": ".join(each for each in (times, _cut(last)) if each)


def _cut(text: str, most: int = SHORT, hint: str = "") -> str:
    clean = printable(text)
    return clean if len(clean) <= most else clean[: most - 1] + "…" + hint
