"""What callers of the library give beside the arguments of tasks: ids, names, states, counts. Pure.

Each function returns what is meant, or raises UsageError on one line: where it was given, what it is, what is wanted.
So nothing that a caller gets wrong is noticed later, in a place that does not know what was asked for.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from .errors import UsageError
from .states import TaskState
from .units import duration

LONGEST_ID = 128  # bytes
LONGEST_COLLECTION = 64
MOST_OF_A_QUEUE = 999_999_999  # slots


def meant(
    word: str, known: Collection[str], elsewhere: Mapping[str, str] = MappingProxyType({}), *, far: str | None = None
) -> str:
    """What to say to somebody who wrote a name that is not known: the nearest one that is, or all of them.

    elsewhere  what is known here of words that other systems use
    far        what to say if none is near, where they may be too many for one line
    """
    near = [elsewhere[word]] if word in elsewhere else difflib.get_close_matches(word, known, 1, 0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(known) or 'none'}" if far is None else far


def text(value: object, what: str) -> str:
    """A text that can be stored."""
    if not isinstance(value, str):
        raise UsageError(f"{what} is {value!r}: write a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is {value!r}: it has halves of characters, which cannot be stored") from None
    return value


def task_id(value: object, where: str) -> str:
    """The id of a task that may be there."""
    if not isinstance(value, str):
        raise UsageError(f"{where}: id is {value!r}: write the task's id as text, or give a Task or TaskInfo")
    return text(value, f"{where}: id")


def new_id(value: object, where: str) -> str:
    """An id for a task that is to be put."""
    found = text(value, f"{where}: id")
    if not 1 <= len(found.encode()) <= LONGEST_ID:
        raise UsageError(f"{where}: an id has 1 to {LONGEST_ID} bytes, not {len(found.encode())}")
    return found


def new_ids(values: object, where: str) -> list[str] | None:
    """Ids for many tasks, or None."""
    if values is None:
        return None
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UsageError(f"{where}: ids is {values!r}: write a list of texts, one a task")
    return [new_id(each, where) for each in values]


def collection(value: object, where: str, *, least: int = 1) -> str:
    """The name of a collection; with ``least`` 0 the empty one too, which is that of tasks in none."""
    if not isinstance(value, str):
        raise UsageError(f"{where}: collection is {value!r}: write its name as text")
    found = text(value, f"{where}: collection")
    if not least <= len(found.encode()) <= LONGEST_COLLECTION:
        bytes_ = f"at most {LONGEST_COLLECTION}" if least == 0 else f"{least} to {LONGEST_COLLECTION}"
        raise UsageError(f"{where}: the name of a collection has {bytes_} bytes: {found!r}")
    return found


def state(value: object, where: str) -> TaskState | None:
    """A state of living tasks, by itself, its value or its name; None is any."""
    if value is None:
        return None
    found = value if isinstance(value, TaskState) else None
    if isinstance(value, str):
        found = next((each for each in TaskState if each.value == value.lower()), None)
    living = ", ".join(each.value for each in TaskState if each is not TaskState.SUCCESS)
    if found is None:
        raise UsageError(f"{where}: state is {value!r}: write a TaskState or one of {living}")
    if found is TaskState.SUCCESS:
        raise UsageError(
            f"{where}: tasks in the state {found.value} are not listed: what is done is deleted; ask for one by its id"
        )
    return found


def count(value: object, what: str, least: int = 0, most: int | None = None) -> int:
    """A whole number."""
    top = f"{least} or more" if most is None else f"{least} to {most:,}"
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise UsageError(f"{what} is {value!r}: write a whole number, {top}")
    return value


def switch(value: object, what: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{what} is {value!r}: write True or False")
    return value


def slots(least: Any, most: Any) -> None:
    """How many slots a queue is to have at least and at most, checked each by itself before; None is not said."""
    for name, said in (("min_slots", least), ("max_slots", most)):
        if said is not None and said > MOST_OF_A_QUEUE:
            raise UsageError(f"{name} is {said}: write {MOST_OF_A_QUEUE:,} at most")
    if least is not None and most is not None and least > most:
        raise UsageError(f"min_slots is {least} and max_slots {most}: the least must not be above the most")


def patience(value: str | float | None, where: str) -> float | None:
    """Seconds to wait at most; None is for ever."""
    return None if value is None else duration(value, f"{where}: timeout")
