"""Sets the kernel's limits of the master, which mold, couriers and slots inherit.

The master itself has a descriptor for each slot and takes as many as it may have; its children get what it was started
with, because ``select`` in their code cannot use a descriptor above 1,023.
"""

import contextlib
import functools
import resource
from collections.abc import Iterator, Mapping

from qslots.errors import SettingsError
from qslots.rlimits import NUMBERS

NOFILE = resource.RLIMIT_NOFILE
_UNLIMITED = resource.RLIM_INFINITY


def apply(limits: Mapping[int, int]) -> None:
    """Sets them, soft and hard; of ``nofile`` the hard one stays as it is if it is higher. SettingsError if one is more
    than this user may have.
    """
    names = {number: name for name, number in NUMBERS.items()}
    for number, value in limits.items():
        _, hard = resource.getrlimit(number)
        keeps = number == NOFILE and (hard == _UNLIMITED or _UNLIMITED != value <= hard)
        try:
            resource.setrlimit(number, (value, hard if keeps else value))
        except (ValueError, OSError):
            shown = "unlimited" if value == _UNLIMITED else value
            raise SettingsError(
                f"server.limits.{names[number]}: {shown} is more than this user may have ({hard}): start qmaster as "
                "root, or set it in the unit or in limits.conf"
            ) from None


@functools.cache
def inherited() -> tuple[int, int]:
    """How many descriptors a child may have, soft and hard: what this process had when it first asked."""
    return resource.getrlimit(NOFILE)


def raise_own() -> None:
    """As many descriptors as this process may have; its children have as many as it had before."""
    _, hard = inherited()
    resource.setrlimit(NOFILE, (hard, hard))


@contextlib.contextmanager
def as_inherited() -> Iterator[None]:
    """In this block the limit is that of children; descriptors that are open stay."""
    own = resource.getrlimit(NOFILE)
    resource.setrlimit(NOFILE, (inherited()[0], own[1]))
    try:
        yield
    finally:
        resource.setrlimit(NOFILE, own)
