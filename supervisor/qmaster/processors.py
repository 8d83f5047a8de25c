"""Reads what processors this server may use and how hard they work, from the kernel's counters and the cgroup files.

Shell: it must never decide what follows (``bounds`` does). In a container a quota counts, and what the container itself
has used of it: the host may idle while we are throttled.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from . import cgroups
from .cgroups import PROC
from .letters import Strain


class Processors:
    """Remembers the counters of the reading before: how busy we are is what they have gained since."""

    def __init__(self, *, proc: Path = PROC) -> None:
        self._proc = proc
        self._used: dict[Path, tuple[float, float]] = {}  # group's folder -> seconds used, when
        psutil.cpu_percent(percpu=True)  # the first call begins the interval of the next

    def read(self) -> Strain:
        """The state of things since the reading before."""
        affinity = os.sched_getaffinity(0)
        each = psutil.cpu_percent(percpu=True)
        usable = [percent for number, percent in enumerate(each) if number in affinity] or each
        cpus, busy = float(len(affinity)), sum(usable) / len(usable) / 100
        used = {}
        for folder, quota, seconds in _quotas(self._proc):
            cpus = min(cpus, quota)
            if seconds is not None:
                used[folder] = now = seconds, time.monotonic()
                before = self._used.get(folder, now)
                busy = max(busy, (now[0] - before[0]) / max(1e-3, now[1] - before[1]) / quota)
        self._used = used
        return Strain(
            cpus, min(1.0, busy), os.getloadavg()[0] / (os.cpu_count() or 1),
            pressure("cpu", proc=self._proc), pressure("memory", proc=self._proc),
        )  # fmt: skip


def pressure(what: str, *, proc: Path = PROC) -> float:
    """Part of the last ten seconds in which some process waited for it; 0 where the kernel does not tell."""
    try:
        found = re.match(r"some avg10=([\d.]+)", (proc / "pressure" / what).read_text())
    except OSError:  # built without it, switched off at boot, or hidden from a container
        return 0.0
    return float(found[1]) / 100 if found else 0.0


def _quotas(proc: Path) -> Iterator[tuple[Path, float, float | None]]:
    """Each group with a quota: its folder, how many processors that is, and the seconds it has used, if it says so."""
    accounts = {group.path: group.folder for group in cgroups.ours("cpuacct", proc=proc) if group.version == 1}
    for group in cgroups.ours("cpu", proc=proc):
        if group.version == 1:
            quota, period = (cgroups.text(group.folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
            spent = cgroups.text(accounts.get(group.path, group.folder) / "cpuacct.usage")
            used = int(spent) / 1e9 if spent else None
        else:
            quota, period = (cgroups.text(group.folder / "cpu.max") or "max 1").split()
            stat = cgroups.text(group.folder / "cpu.stat") or ""
            found = re.search(r"^usage_usec (\d+)$", stat, re.MULTILINE)
            used = int(found[1]) / 1e6 if found else None
        if quota and period and quota not in ("max", "-1"):
            yield group.folder, int(quota) / int(period), used
