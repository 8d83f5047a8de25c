"""The reply of the ``stats`` script as a record, and what the field of a closed gate says. Pure."""

from collections.abc import Iterator
from typing import Any

from .packtimes import PackTimes
from .reports import HandlerStats, QueueStats

_BECAUSE = b"paused: "  # before the reason in the field of a gate: see gate.lua
_MOST = 1 << 63  # HINCRBY goes no further
_MOST_SUM = 1 << 128  # what scripts add up in decimals: squares of µs


def stats_of(queue: str, reply: list[Any]) -> QueueStats:
    """The counts of one queue. ValueError and the like if no script of ours can have written what they are made of."""
    counters = _counters(reply[10])
    gates = {gate.decode(): why_closed(said) for gate, said in _pairs(reply[9]) if b":" in gate}
    busy = counters.pop("busy", 0) / 1e6
    cumulative = {name: counters[name] for name in counters if name in QueueStats.__struct_fields__}
    cumulative["put"] = sum(value for name, value in counters.items() if name.startswith("put:"))
    now, active, inactive, locked, buried, oldest, parked, takeable, expired = (int(value) for value in reply[:9])
    return QueueStats(
        queue, now / 1e6, active, inactive, locked, buried, oldest / 1e6, busy=busy, parked=parked, takeable=takeable,
        expired=expired, packing=PackTimes.counted(counters), paused="queue:" in gates, gates=tuple(sorted(gates)),
        reasons={gate: why for gate, why in gates.items() if why}, handlers=tuple(map(_handler_stats, reply[11])),
        **cumulative,
    )  # fmt: skip


def _counters(flat: list[bytes]) -> dict[str, int]:
    counters = {name.decode(): int(value) for name, value in _pairs(flat)}
    for name, value in counters.items():
        if not 0 <= value < (_MOST_SUM if name.startswith("pack:") else _MOST):
            raise ValueError(f"counter {name} is {value}")
    return counters


def _handler_stats(said: list[Any]) -> HandlerStats:
    name, active, inactive, oldest, is_open = said
    return HandlerStats(name.decode(), active, inactive, int(oldest) / 1e6, bool(is_open))


def why_closed(said: bytes) -> str:
    """Why a gate has closed by itself, by what its field says; "" of one that was closed by hand, or is open."""
    return said.removeprefix(_BECAUSE).decode(errors="replace") if said.startswith(_BECAUSE) else ""


def _pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
