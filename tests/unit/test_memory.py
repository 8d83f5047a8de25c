"""What is read of processes and cgroups: from made trees, and from this machine's own /proc."""

import os
import subprocess
from pathlib import Path

import pytest

from qmaster.memory import CACHE_KEPT, PROC, Refused, Rollup, machine, rollup
from qslots.errors import Error

M = 1 << 20
UNLIMITED_V1 = 9223372036854771712


def available(proc: Path = PROC) -> int:
    return machine(proc=proc)[0]


def total(proc: Path = PROC) -> int:
    return machine(proc=proc)[1]


class Tree:
    """A made /proc and the cgroup trees that its mountinfo names."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.cgroups = folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "mountinfo").write_text("22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n")
        (self.proc / "self" / "cgroup").write_text("2:cpu,cpuacct:/elsewhere\n")
        self.host()

    def host(self, *, total: int = 64000 * M, available: int = 32000 * M) -> None:
        lines = {"MemTotal": total, "MemFree": M, "MemAvailable": available}
        text = "".join(f"{name}:  {value >> 10} kB\n" for name, value in lines.items())
        (self.proc / "meminfo").write_text(text + "HugePages_Total:       0\n")

    def mount(self, kind: str, path: str, *, root: str = "/") -> None:
        """A memory controller of ``kind`` ("v1", "v2") in which this process has ``path``."""
        line, option = ("7:memory", "memory") if kind == "v1" else ("0:", "nsdelegate")
        filesystem = {"v1": "cgroup", "v2": "cgroup2"}[kind]
        with (self.proc / "self" / "cgroup").open("a") as file:
            file.write(f"{line}:{path}\n")
        with (self.proc / "self" / "mountinfo").open("a") as file:
            file.write(f"35 31 0:32 {root} {self.cgroups / kind} rw shared:9 - {filesystem} cgroup rw,{option}\n")

    def v2(self, path: str, limit: object, usage: int, *, high: object = "max", **stat: int) -> None:
        names = {"anon": 5 * M, "shmem": 0, "active_file": 0, "inactive_file": 0, "file_dirty": 0, "file_writeback": 0}
        self._write("v2", path, {"memory.max": limit, "memory.high": high, "memory.current": usage}, names | stat)

    def v1(self, path: str, limit: object, usage: int, **stat: int) -> None:
        names = {"active_file": 0, "inactive_file": 0, "dirty": 0, "writeback": 0} | stat
        own = dict.fromkeys(names, 0) | {"hierarchical_memory_limit": UNLIMITED_V1}
        counters = own | {f"total_{name}": value for name, value in names.items()}
        self._write("v1", path, {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": usage}, counters)

    def _write(self, kind: str, path: str, files: dict[str, object], stat: dict[str, int]) -> None:
        folder = self.cgroups / kind / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")
        (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_host_alone_is_its_available_memory(tree: Tree) -> None:
    assert available(proc=tree.proc) == 32000 * M
    assert total(proc=tree.proc) == 64000 * M


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_all_file_cache_of_a_cgroup_counts_as_to_be_had(tree: Tree, kind: str) -> None:
    tree.mount(kind, "/app")
    write = tree.v1 if kind == "v1" else tree.v2
    write("/app", 1000 * M, 850 * M, active_file=550 * M, inactive_file=150 * M)  # inactive_file alone: 300 MB
    assert available(proc=tree.proc) == 850 * M - CACHE_KEPT
    assert total(proc=tree.proc) == 1000 * M


@pytest.mark.parametrize(("kind", "dirty"), [("v1", "dirty"), ("v2", "file_dirty")])
def test_unwritten_cache_and_shared_memory_cannot_be_had(tree: Tree, kind: str, dirty: str) -> None:
    tree.mount(kind, "/app")
    write = tree.v1 if kind == "v1" else tree.v2
    write("/app", 1000 * M, 900 * M, inactive_file=300 * M, shmem=400 * M, **{dirty: 100 * M})
    assert available(proc=tree.proc) == 300 * M - CACHE_KEPT


def test_more_unwritten_than_cached_takes_nothing_away(tree: Tree) -> None:
    tree.mount("v2", "/app")
    tree.v2("/app", 1000 * M, 900 * M, inactive_file=10 * M, file_dirty=60 * M)
    assert available(proc=tree.proc) == 100 * M


def test_half_of_a_small_cache_stays(tree: Tree) -> None:
    tree.mount("v2", "/app")
    tree.v2("/app", 100 * M, 60 * M, active_file=20 * M)
    assert available(proc=tree.proc) == 50 * M


def test_the_tighter_parent_counts(tree: Tree) -> None:
    tree.mount("v2", "/pods/app/qmaster")
    tree.v2("/pods/app/qmaster", 4000 * M, 100 * M)
    tree.v2("/pods/app", "max", 100 * M)
    tree.v2("/pods", 2000 * M, 1500 * M)
    assert available(proc=tree.proc) == 500 * M
    assert total(proc=tree.proc) == 2000 * M


def test_memory_high_is_a_limit_too(tree: Tree) -> None:
    tree.mount("v2", "/app")
    tree.v2("/app", 1000 * M, 300 * M, high=800 * M)
    assert available(proc=tree.proc) == 500 * M


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_a_cgroup_without_limit_leaves_the_host(tree: Tree, kind: str) -> None:
    tree.mount(kind, "/app")
    tree.v1("/app", UNLIMITED_V1, 300 * M)
    tree.v2("/app", "max", 300 * M)
    assert available(proc=tree.proc) == 32000 * M
    assert total(proc=tree.proc) == 64000 * M


def test_on_a_hybrid_host_the_tighter_version_counts(tree: Tree) -> None:
    tree.mount("v1", "/jobs")
    tree.mount("v2", "/app")
    tree.v1("/jobs", 700 * M, 100 * M)
    tree.v2("/app", 900 * M, 100 * M)
    assert available(proc=tree.proc) == 600 * M


def test_a_container_that_sees_only_its_own_part_of_the_tree(tree: Tree) -> None:
    tree.mount("v1", "/docker/abc/inner", root="/docker/abc")
    tree.v1("/", 500 * M, 100 * M)
    tree.v1("/inner", UNLIMITED_V1, 100 * M)
    assert available(proc=tree.proc) == 400 * M


@pytest.mark.parametrize("path", ["/../outside", "/docker/other"])
def test_a_tree_that_does_not_hold_us_is_left_out(tree: Tree, path: str) -> None:
    tree.mount("v2", path, root="/" if ".." in path else "/docker/abc")
    tree.v2("/", 500 * M, 100 * M)
    assert available(proc=tree.proc) == 32000 * M


def test_a_cgroup_above_its_limit_has_nothing(tree: Tree) -> None:
    tree.mount("v2", "/app")
    tree.v2("/app", 100 * M, 101 * M)
    assert available(proc=tree.proc) == 0


def test_a_cgroup_that_is_gone_does_not_count(tree: Tree) -> None:
    tree.mount("v2", "/app (deleted)")
    assert available(proc=tree.proc) == 32000 * M


def test_swap_that_is_counted_with_memory_is_a_limit_too(tree: Tree) -> None:
    tree.mount("v1", "/app")
    tree.v1("/app", 500 * M, 300 * M)
    folder = tree.cgroups / "v1" / "app"
    (folder / "memory.memsw.limit_in_bytes").write_text(f"{600 * M}\n")
    (folder / "memory.memsw.usage_in_bytes").write_text(f"{590 * M}\n")  # 290 MB of it are swapped out
    assert available(proc=tree.proc) == 10 * M
    assert total(proc=tree.proc) == 500 * M


def test_a_group_that_comes_and_goes_counts_while_it_is_there(tree: Tree) -> None:
    tree.mount("v2", "/app")
    assert available(proc=tree.proc) == 32000 * M
    tree.v2("/app", 1000 * M, 300 * M)
    assert available(proc=tree.proc) == 700 * M
    for file in (tree.cgroups / "v2" / "app").iterdir():
        file.unlink()
    assert available(proc=tree.proc) == 32000 * M


@pytest.mark.parametrize("file", ["memory.max", "memory.current", "memory.stat"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it_and_no_guess(tree: Tree, file: str) -> None:
    tree.mount("v2", "/app")
    tree.v2("/app", 1000 * M, 300 * M)
    path = tree.cgroups / "v2" / "app" / file
    path.unlink()
    path.mkdir()  # root may read any file, but no folder
    with pytest.raises(Error, match=f"{path} cannot be read"):
        available(proc=tree.proc)


def test_a_kernel_that_does_not_count_unwritten_cache_has_none(tree: Tree) -> None:
    tree.mount("v2", "/app")
    tree.v2("/app", 1000 * M, 300 * M)
    (tree.cgroups / "v2" / "app" / "memory.stat").write_text("anon 5\nactive_file 0\ninactive_file 20971520\n")
    assert available(proc=tree.proc) == 710 * M


def test_a_rollup_is_in_bytes_and_its_size_has_swap_and_page_tables(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tqslots kB\nUid:\t0\t0\t0\t0\nVmPTE:\t     700 kB\nThreads:\t1\n")
    (tmp_path / "7" / "smaps_rollup").write_text(
        "56511ca1c000-7ffebf3b4000 ---p 00000000 00:00 0       [rollup]\nRss:  90000 kB\nPss:  5000 kB\n"
        "Pss_Dirty:  1 kB\nPrivate_Clean:  40 kB\nPrivate_Dirty:  3000 kB\nSwap:  60000 kB\nSwapPss:  800 kB\n"
    )
    reading = rollup(7, proc=tmp_path)
    assert reading == Rollup(
        pss=5000 << 10, private_dirty=3000 << 10, private_clean=40 << 10, swap_pss=800 << 10, page_tables=700 << 10
    )
    assert reading.size == (3000 + 40 + 800 + 700) << 10


def test_this_process_and_machine_can_be_read() -> None:
    reading = rollup(os.getpid())
    assert isinstance(reading, Rollup)
    assert reading.pss > M
    assert reading.page_tables > 0
    assert 0 < available() <= total()


def test_a_process_that_is_gone_is_none() -> None:
    assert rollup((1 << 22) + 1) is None  # above the highest pid that Linux gives


def test_a_zombie_is_none() -> None:
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert rollup(child.pid) is None
    finally:
        child.wait()


def test_a_process_that_may_not_be_read_is_an_outcome_of_its_own() -> None:
    if os.geteuid() and os.geteuid() == Path("/proc/1").stat().st_uid:
        pytest.skip("process 1 is of this user, so nothing here is refused")
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            os._exit(0 if rollup(1) == Refused(1) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "CAP_SYS_PTRACE" in str(Refused(1))
