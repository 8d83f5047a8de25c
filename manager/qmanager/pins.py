"""Queues that people have pinned to a number of slots: a pin is min = max. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from qslots.reports import Declared, QueueDeclared, QueuePlan


def pinned(declared: Mapping[str, Declared], pins: Mapping[str, int]) -> dict[str, Declared]:
    """The declarations with the pins in place of min and max."""
    if not pins:
        return dict(declared)
    return {digest: Declared(tuple(_pinned(queue, pins) for queue in each.queues)) for digest, each in declared.items()}


def _pinned(queue: QueueDeclared, pins: Mapping[str, int]) -> QueueDeclared:
    slots = pins.get(queue.name)
    return queue if slots is None else msgspec.structs.replace(queue, min_slots=slots, max_slots=slots)


def told(queues: Iterable[QueuePlan], pins: Mapping[str, int]) -> tuple[QueuePlan, ...]:
    """The plans of the queues, with the pin as the first reason."""
    return tuple(
        msgspec.structs.replace(each, reason=f"{in_words(pins[each.name])}; {each.reason}", pinned=pins[each.name])
        if each.name in pins
        else each
        for each in queues
    )


def in_words(slots: int) -> str:
    """What the reason of a pinned queue begins with."""
    return f"pinned to {slots} by `qslots pin`"
