"""The kernel's limits as the settings file writes them: ``{nofile: 4096, core: 0, as: 2G}``. Pure: it sets nothing."""

import resource
from collections.abc import Mapping

from . import given
from .errors import UsageError
from .units import size

NUMBERS = {name[7:].lower(): int(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}


def parse(limits: Mapping[str, int | str], what: str = "limits") -> dict[int, int]:
    """The kernel's number of each limit -> its value. UsageError names the limit that is meant, or the form."""
    return {_number(name, what): _value(value, f"{what}.{name}") for name, value in limits.items()}


def _number(name: str, what: str) -> int:
    if name not in NUMBERS:
        raise UsageError(f"{what}.{name}: {given.meant(name.lower().removeprefix('rlimit_'), NUMBERS)}")
    return NUMBERS[name]


def _value(value: int | str, what: str) -> int:
    return resource.RLIM_INFINITY if value == "unlimited" else size(value, what)
