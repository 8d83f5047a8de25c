"""Handlers that are not known in this process: their tasks can be put, read and changed all the same.

Arguments must be named then, and whether they fit is only seen in the slot.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from .client import override
from .errors import ArgumentsError, QueueServerError, UnknownTask
from .handlers import REGISTRY, Call, Handler, Options, encoded, free_arguments
from .inspector import Inspector
from .keys import check_name
from .records import formed, head, header
from .tasks import check_size

_ATTEMPTS = 3  # at a task that is replaced under our hands


class ForeignArguments:
    """Stands for the parameters of a handler that is not known here."""

    takes_pack = False
    signature = 0

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


def update(inspector: Inspector, task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Gives a task that no slot has other arguments. UnknownTask, TaskLocked; ArgumentsError: they do not fit."""
    for _ in range(_ATTEMPTS):
        _, [found] = inspector.get([task])
        if found is None:
            raise UnknownTask(f"no task {task} is in queue {inspector.queue}: it is done, deleted, or never was")
        try:
            said = head(found.record)
        except ValueError as error:
            raise QueueServerError(f"task {task} of queue {inspector.queue} is {error}: delete it") from None
        known = handler(inspector.queue, said.handler)
        try:
            new = known.arguments.bodies([(args, kwargs)])[0]
        except ArgumentsError as error:
            raise known.misfit(error) from None
        check_size(known, len(new), REGISTRY.queue(known.queue, override(known.queue)).max_size)
        signature = known.arguments.signature or said.signature
        try:
            return inspector.update(task, header(said.handler, signature, said.collection) + formed(new))
        except QueueServerError as error:
            if error.code != "CHANGED":
                raise
    raise QueueServerError(f"task {task} of queue {inspector.queue} is replaced again and again: try once more")
