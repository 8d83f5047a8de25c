"""Reads what processes use and what memory could still be had, from /proc and the cgroup files. Bytes throughout.

Shell: it opens files and adds up what they say. It must never decide anything (``capacity`` does) and never guess:
a process that is gone and one that may not be read are two outcomes, and neither is a size of zero.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qslots.footprint import read_proc

from . import cgroups
from .cgroups import PROC

CACHE_KEPT = 32 << 20  # file cache of a cgroup that is not offered: the running code itself lies there
_UNLIMITED = 1 << 62  # and more is what version 1 says where no limit is set

_FIELD = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)  # strict: a process may call itself anything, "x kB" too


@dataclass(frozen=True, slots=True)
class Rollup:
    """What one process uses, bytes. ``pss`` leaves out page tables: 0.7 to 3.2 MB of a forked slot."""

    pss: int
    private_dirty: int
    private_clean: int
    swap_pss: int  # not ``Swap``: that counts the mold's swapped pages again in every slot
    page_tables: int

    @property
    def size(self) -> int:
        """Bytes that would come free if the process ended: private + SwapPss + page tables."""
        return self.private_dirty + self.private_clean + self.swap_pss + self.page_tables

    @property
    def grown(self) -> int:
        """Bytes that the process has made private by writing, its share of the swapped ones included."""
        return self.private_dirty + self.swap_pss


@dataclass(frozen=True, slots=True)
class Refused:
    """The kernel refuses to show this process to us; it lives, its size is unknown."""

    pid: int

    def __str__(self) -> str:
        return (
            f"the memory of process {self.pid} may not be read: "
            "run qmaster as the user of its slots, or give it CAP_SYS_PTRACE"
        )


@dataclass(frozen=True, slots=True)
class _Level:
    """One limit of a cgroup, bytes."""

    limit: int
    available: int


@dataclass(frozen=True, slots=True)
class _Version:
    """The names that one version of the memory controller gives its files and counters."""

    limits: tuple[tuple[str, str], ...]  # and what of it is used
    cache: tuple[str, ...]  # of memory.stat; shared memory is in none of these
    unwritten: tuple[str, ...]  # part of ``cache`` that cannot be dropped before it is written


_V1 = _Version(
    limits=(
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"),  # memory and swap together
    ),
    cache=("total_active_file", "total_inactive_file"),
    unwritten=("total_dirty", "total_writeback"),
)
_V2 = _Version(
    limits=(("memory.max", "memory.current"), ("memory.high", "memory.current")),
    cache=("active_file", "inactive_file"),
    unwritten=("file_dirty", "file_writeback"),
)


def rollup(pid: int, *, proc: Path = PROC) -> Rollup | Refused | None:
    """What the process uses; None when it is gone or a zombie, Refused when we lack the right to look.

    Costs about 3 ms a GB resident and holds the process's mmap lock meanwhile. Under ``hidepid=2`` the process of
    another user looks gone.
    """
    try:
        memory = _kilobytes(f"{proc}/{pid}/smaps_rollup")
        status = _kilobytes(f"{proc}/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        return Refused(pid)
    if "VmPTE" not in status or "Pss" not in memory:  # it ended between the two readings
        return None
    return Rollup(
        pss=memory["Pss"],
        private_dirty=memory["Private_Dirty"],
        private_clean=memory["Private_Clean"],
        swap_pss=memory["SwapPss"],
        page_tables=status["VmPTE"],
    )


def machine(*, proc: Path = PROC) -> tuple[int, int]:
    """Bytes that could be had now, and bytes there are: the least of the host's and of every cgroup that holds us.
    Error if one of these may not be read.
    """
    host, levels = _kilobytes(f"{proc}/meminfo"), list(_levels(proc))
    free = min([host["MemAvailable"], *(level.available for level in levels)])
    return max(0, free), min([host["MemTotal"], *(level.limit for level in levels)])


def _levels(proc: Path) -> Iterator[_Level]:
    for group in cgroups.ours("memory", proc=proc):
        yield from _of(_V1 if group.version == 1 else _V2, group.folder)


def _of(version: _Version, folder: Path) -> Iterator[_Level]:
    """Limit - usage + the file cache that can be dropped, of each limit that is set; nothing when the group is gone.

    All of the cache counts, not only ``inactive_file``: with 700 MB of it that formula said 300 MB where 850 MB could
    be had. As in the kernel's MemAvailable (si_mem_available), the lesser of half of it and a fixed amount stays.
    """
    said = [(cgroups.text(folder / limit), usage) for limit, usage in version.limits]
    limits = [(int(most), usage) for most, usage in said if most not in (None, "max") and int(most) < _UNLIMITED]
    stat = cgroups.text(folder / "memory.stat") if limits else None
    if stat is None:
        return
    counters = {name: int(value) for name, value in (line.split() for line in stat.splitlines())}
    unwritten = sum(counters.get(name, 0) for name in version.unwritten)
    cache = max(0, sum(counters.get(name, 0) for name in version.cache) - unwritten)
    dropped = cache - min(cache // 2, CACHE_KEPT)
    for most, usage in limits:
        used = cgroups.text(folder / usage)
        if used is not None:
            yield _Level(most, most - int(used) + dropped)


def _kilobytes(file: str) -> dict[str, int]:
    """The lines "Name:  123 kB" of a file of /proc, in bytes; other lines are left out."""
    return {name: int(number) << 10 for name, number in _FIELD.findall(read_proc(file))}
