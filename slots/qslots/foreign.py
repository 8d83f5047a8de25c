"""Handlers that are not known in this process: their tasks can be put, read and changed all the same.

Arguments must be named then, and whether they fit is only seen in the slot.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from .client import override
from .errors import ArgumentsError, QueueServerError, UnknownTask
from .handlers import REGISTRY, Call, Handler, Takes, encoded, free_arguments
from .inspector import Found, Inspector
from .keys import check_name
from .options import Options
from .queries import arguments_of
from .records import formed, head, header, trace, traced
from .tasks import check_size

_ATTEMPTS = 10  # at a task that is replaced under our hands


class ForeignArguments:
    """Stands for the parameters of a handler that is not known here."""

    takes_pack = False
    signature = 0
    positional = ()

    def bodies(self, calls: Sequence[Call]) -> list[bytes]:
        """Named arguments as msgpack."""
        if any(args for args, _ in calls):
            raise ArgumentsError("its handler is not known in this process: name the arguments")
        return [encoded(dict(kwargs)) for _, kwargs in calls]

    def decode(self, body: bytes | memoryview) -> msgspec.Struct:  # noqa: ARG002
        """Not asked of a handler that does not run here."""
        raise ArgumentsError("its handler is not known in this process")

    def call(self, body: bytes | memoryview) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a stored body holds, as it is."""
        try:
            found = free_arguments(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ArgumentsError(f"the stored arguments cannot be read: {error}") from None
        return found.args, found.kwargs


def _elsewhere(*_: object, **__: object) -> NoReturn:
    raise NotImplementedError("this handler is not known in this process")


def handler(queue: str, name: str | None) -> Handler:
    """The handler of a queue by its name; by None its only one known here, else the one named as the queue is."""
    here = REGISTRY.of_queue(queue)
    if name is None and len(here) == 1:
        return here[0]
    wanted = check_name(name or queue, "the handler name")
    known = REGISTRY.handlers.get(wanted)
    if known is not None and known.queue == queue:
        return known
    return Handler(wanted, queue, _elsewhere, Options(), ForeignArguments(), "not known in this process")


def update(inspector: Inspector, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Changes these arguments of a task that no slot has. UnknownTask, TaskLocked; ArgumentsError: they do not fit."""
    for _ in range(_ATTEMPTS):
        _, [found] = inspector.get([task])
        if found is None:
            raise UnknownTask(f"no task {task} is in queue {inspector.queue}: it is done, deleted, or never was")
        try:
            return inspector.update(task, _changed(inspector.queue, found, args, kwargs), found.record)
        except QueueServerError as error:
            if error.code != "CHANGED":
                raise
    raise QueueServerError(f"task {task} of queue {inspector.queue} is replaced again and again: try once more")


def _changed(queue: str, found: Found, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """The record of a task with these arguments changed, checked as a whole if its handler is known here."""
    try:
        said, stored = head(found.record), arguments_of(found.record)
    except ValueError as error:
        raise QueueServerError(f"task {found.id} of queue {queue} is {error}: delete it") from None
    known = handler(queue, said.handler)
    try:
        call = merged(stored, (args, kwargs), known.arguments)
        as_it_was = isinstance(known.arguments, ForeignArguments) and call[0]  # positional ones of a pack's task
        new = encoded(call) if as_it_was else known.arguments.bodies([call])[0]
    except ArgumentsError as error:
        raise known.misfit(error) from None
    check_size(known, len(new), REGISTRY.queue(queue, override(queue)).max_size)
    start = header(said.handler, known.arguments.signature or said.signature, said.collection)
    return traced(start, trace(found.record)) + formed(new)


def merged(stored: Call, given: Call, parameters: Takes) -> Call:
    """A stored call with some of its arguments given anew; all others stay. ArgumentsError: it has none of that name.

    What is known of the names: those of the handler, if it is known here; else those that are stored. A task of a pack
    has any.
    """
    (old, named), (new, changes) = stored, given
    if parameters.takes_pack:
        return (*new, *old[len(new) :]), {**named, **changes}
    if isinstance(parameters, ForeignArguments):
        if new:
            raise ArgumentsError("its handler is not known in this process: name the arguments")
        strange = changes.keys() - named.keys()
        if strange and named and not old:
            raise ArgumentsError(
                f"the task has no argument {min(strange)}: it has {', '.join(sorted(named))}; one that it was put "
                "without can be given where its handler is known"
            )
        return old, {**named, **changes}
    twice = {*parameters.positional[: len(new)]} & changes.keys()
    if twice:
        raise ArgumentsError(f"argument {min(twice)} is given twice")
    places = parameters.positional
    if len(new) > len(places):
        return new, changes  # refused for that when it is checked
    return (), {**dict(zip(places, old, strict=False)), **named, **dict(zip(places, new, strict=False)), **changes}
