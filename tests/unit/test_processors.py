"""What processors a server may use: from made trees of control groups, and from this machine's own /proc."""

import os
from pathlib import Path

import pytest

from qmaster.processors import Processors, pressure

MEMBERSHIP = {"v1": "3:cpu:/app\n4:cpuacct:/app\n", "v2": "0::/app\n"}
MOUNTS = {
    "v1": "35 31 0:32 / {0}/cpu rw - cgroup cgroup rw,cpu\n36 31 0:33 / {0}/cpuacct rw - cgroup cgroup rw,cpuacct\n",
    "v2": "35 31 0:32 / {0}/all rw - cgroup2 cgroup2 rw,nsdelegate\n",
}
ALL = float(len(os.sched_getaffinity(0)))


class Tree:
    """A made /proc and the groups / and /app of one version."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.proc, self.groups, self.kind = folder / "proc", folder / "groups", kind
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text(MEMBERSHIP[kind])
        (self.proc / "self" / "mountinfo").write_text(MOUNTS[kind].format(self.groups))

    def group(self, path: str, quota: float | None, used: float) -> None:
        """``quota`` in processors, ``used`` in seconds."""
        period = 100_000
        if self.kind == "v1":
            self._write("cpu", path, "cpu.cfs_quota_us", -1 if quota is None else int(quota * period))
            self._write("cpu", path, "cpu.cfs_period_us", period)
            self._write("cpuacct", path, "cpuacct.usage", int(used * 1e9))
        else:
            self._write("all", path, "cpu.max", f"{'max' if quota is None else int(quota * period)} {period}")
            self._write("all", path, "cpu.stat", f"usage_usec {int(used * 1e6)}\nuser_usec 1")

    def _write(self, tree: str, path: str, name: str, value: object) -> None:
        folder = self.groups / tree / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{value}\n")


@pytest.mark.parametrize("kind", ["v1", "v2"])
@pytest.mark.parametrize(
    ("above", "own", "cpus"), [(None, 0.5, 0.5), (0.25, 0.5, 0.25), (None, None, ALL), (None, ALL + 4, ALL)]
)
def test_the_least_of_affinity_and_quotas_counts(
    tmp_path: Path, kind: str, above: float | None, own: float | None, cpus: float
) -> None:
    tree = Tree(tmp_path, kind)
    tree.group("/", above, 1.0)
    tree.group("/app", own, 1.0)
    assert Processors(proc=tree.proc).read().cpus == cpus


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_a_container_is_busy_when_its_quota_is_used_whatever_the_host_does(tmp_path: Path, kind: str) -> None:
    tree = Tree(tmp_path, kind)
    tree.group("/app", 0.5, 1.0)
    processors = Processors(proc=tree.proc)
    processors.read()
    tree.group("/app", 0.5, 3601.0)
    assert processors.read().busy == 1.0


def test_without_any_group_the_machine_itself_counts(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "v2")  # the group is gone
    found = Processors(proc=tree.proc).read()
    assert found.cpus == ALL
    assert 0.0 <= found.busy <= 1.0
    assert found.load >= 0.0


def test_pressure_is_the_part_of_time_in_which_some_waited(tmp_path: Path) -> None:
    assert pressure("memory", proc=tmp_path) == 0.0, "a kernel without it"
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text("some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=99.0\n")
    assert pressure("memory", proc=tmp_path) == 0.125
    (tmp_path / "pressure" / "cpu").mkdir()  # one that cannot be read, as where it is switched off
    assert pressure("cpu", proc=tmp_path) == 0.0


def test_this_machine_can_be_read() -> None:
    found = Processors().read()
    assert 0.0 < found.cpus <= ALL
    assert 0.0 <= found.busy <= 1.0
    assert 0.0 <= found.memory_pressure <= 1.0
