"""The rig itself: nothing of it outlives the process that made it."""

import json
import os
import pathlib
import signal
import subprocess
import sys

from support.processes import processes_in
from support.waiting import wait_for

from qslots.embedded import die_with_parent

TESTS = pathlib.Path(__file__).parents[1]
MAKE = """\
import json, pathlib, signal, sys
from cluster.site import Site
site = Site(pathlib.Path(sys.argv[1]))
print(json.dumps(site.rack.pids()), flush=True)
signal.pause()
"""
KINDS = ("net", "mnt", "pid", "uts", "ipc")


def test_a_site_whose_maker_is_killed_leaves_no_process_no_namespace_and_no_mount(cluster_folder: pathlib.Path) -> None:
    folder = cluster_folder / "killed"
    folder.mkdir()
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(folder)], cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent(signal.SIGKILL),
    )  # fmt: skip
    with maker:
        assert maker.stdout is not None
        pids = json.loads(maker.stdout.readline())
        theirs = set().union(*map(namespaces, pids)) - namespaces(os.getpid())
        assert len(theirs) >= 3 * len(KINDS)
        maker.kill()
    wait_for(
        lambda: not (processes_in(folder) or living_in(theirs)),
        lambda: f"all of it to end: {processes_in(folder)}, {living_in(theirs)}", 20.0,
    )  # fmt: skip
    assert str(folder) not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert not any((folder / "disks").iterdir())


def namespaces(pid: int | str) -> set[str]:
    try:
        return {str(pathlib.Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in KINDS}
    except OSError:
        return set()  # it is gone


def living_in(spaces: set[str]) -> list[str]:
    """The processes in any of these namespaces."""
    return [
        entry.name
        for entry in pathlib.Path("/proc").iterdir()
        if entry.name.isdigit() and namespaces(entry.name) & spaces
    ]
