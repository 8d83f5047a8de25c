"""Machines made of namespaces: a rack of nodes, two wires each, a power switch and a freezer.

Each node has its own net, mount, pid, uts and ipc namespaces. Wire ``ring`` joins the nodes, wire ``store`` joins them
to what else they need, here the queue server; each is a bridge in the network namespace of the rack's holder, where the
nodes' disks are, too. So nothing is added to the machine's own namespaces, and all of it is gone with the process that
made it, be it by SIGKILL: the kernel ends holder and nodes with their parent, and namespaces with their last process.
Needs root. No address in here may be connected to from outside.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from support.waiting import wait_for

from qslots.embedded import die_with_parent

BOOT = pathlib.Path(__file__).with_name("boot.py")
WIRES = {"ring": "10.77.0", "store": "10.78.0"}
BRIDGE = "address 02:00:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"  # an address that stays
STORE = f"{WIRES['store']}.254"  # the rack itself
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEW = ("--net", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child=SIGKILL", "--propagation", "private")
TRIAL = """\
mount -t tmpfs none /run
mkdir /run/upper /run/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work /etc
ip link add trial type bridge
ip link add one type veth peer name other
"""
ENTER = ("--net", "--mount", "--ipc", "--uts", "--pid")


def lacking(programs: Iterable[str]) -> str:
    """Why there can be no rack here, "" if nothing speaks against it."""
    if os.geteuid() != 0:
        return "a cluster in namespaces needs root"
    missing = [each for each in ("unshare", "nsenter", "ip", *programs) if shutil.which(each, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} not installed: .ci/packages names the packages"
    tried = subprocess.run(["unshare", *NEW, "sh", "-ec", TRIAL], capture_output=True, text=True, check=False)
    return f"no namespaces can be made here: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(slots=True)
class Node:
    """A node that is on: ``process`` ends when its last process has, ``first`` is its PID 1 as seen from here."""

    process: "subprocess.Popen[str]"
    first: int
    frozen: bool = False


class Rack:
    """Nodes by name; ``folder`` gets their logs and is what they boot from (``files``, ``cib.xml``)."""

    def __init__(self, folder: pathlib.Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.names = tuple(names)
        self._on: dict[str, Node] = {}
        self._cut: set[tuple[str, str]] = set()
        self._lock = threading.RLock()  # the power switch is pressed by tests and by fencing
        (folder / "disks").mkdir()
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c",
             f"mount -t tmpfs none {folder}/disks && echo && exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent(signal.SIGKILL),
        )  # fmt: skip
        assert self._holder.stdout is not None and self._holder.stdout.readline(), "the rack has no namespace"
        self._ip("link set lo up")
        for wire in WIRES:
            self._ip(f"link add {wire} {BRIDGE}", f"link set {wire} up")
        self._ip(f"addr add {STORE}/24 dev store")

    @property
    def inside(self) -> list[str]:
        """What to put before a command that is to run where the nodes' ``store`` wire ends."""
        return ["nsenter", "--target", str(self._holder.pid), "--net", "--"]

    def pids(self) -> list[int]:
        """One process in each set of namespaces."""
        return [self._holder.pid, *(node.first for node in self._on.values())]

    def address(self, name: str, wire: str = "ring") -> str:
        return f"{WIRES[wire]}.{self.names.index(name) + 1}"

    # Power

    def on(self, name: str) -> None:
        with self._lock:
            if self.is_on(name):
                return
            own = self.folder / name
            own.mkdir(exist_ok=True)
            (own / "ready").unlink(missing_ok=True)
            lines = ["link set lo up"]
            lines += [f"addr add {self.address(name, w)}/24 dev {w}\nlink set {w} up" for w in WIRES]
            (own / "addresses").write_text("\n".join(lines) + "\n")
            with (own / "console").open("a") as console:
                process = subprocess.Popen(
                    ["nsenter", "--target", str(self._holder.pid), "--net", "--mount", "--", "unshare", *NEW, "--",
                     sys.executable, str(BOOT), str(self.folder), name],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=console, text=True,
                    cwd="/", env=_environment(), preexec_fn=die_with_parent(signal.SIGKILL),
                )  # fmt: skip
            assert process.stdin is not None and process.stdout is not None
            said = process.stdout.readline()
            assert said, f"{name} does not boot: {(own / 'console').read_text()}"
            self._on[name] = Node(process, int(said))
            for wire in WIRES:
                self._plug(name, wire, int(said))
            process.stdin.write("\n")
            process.stdin.flush()

    def off(self, name: str) -> None:
        """Returns when the last of its processes is gone."""
        with self._lock:
            node = self._on.pop(name, None)
            if node is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(node.first, signal.SIGKILL)
                node.process.wait(30)
                for pipe in (node.process.stdin, node.process.stdout):
                    assert pipe is not None
                    pipe.close()

    def is_on(self, name: str) -> bool:
        with self._lock:
            node = self._on.get(name)
            return node is not None and node.process.poll() is None

    def stop(self) -> None:
        """Everything off, the wires gone."""
        for name in self.names:
            self.off(name)
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    # Wires

    def cut(self, name: str, *wires: str) -> None:
        """Packets vanish without a word, also over a reboot."""
        with self._lock:
            self._cut |= {(name, wire) for wire in wires}
            self._ip(*(f"link set {name}-{wire} nomaster" for wire in wires))

    def mend(self, name: str) -> None:
        """All wires of this node join again."""
        with self._lock:
            wires = [wire for wire in WIRES if (name, wire) in self._cut]
            self._cut -= {(name, wire) for wire in wires}
            if self.is_on(name):
                self._ip(*(f"link set {name}-{wire} master {wire}" for wire in wires))

    def _plug(self, name: str, wire: str, pid: int) -> None:
        end = f"{name}-{wire}"
        self._ip(f"link del {end}", check=False)  # a namespace that has ended keeps its wire for a moment
        self._ip(f"link add {end} type veth peer name {wire} netns {pid}", f"link set {end} up")
        if (name, wire) not in self._cut:
            self._ip(f"link set {end} master {wire}")

    def _ip(self, *lines: str, check: bool = True) -> None:
        done = subprocess.run(
            [*self.inside, "ip", "-batch", "-"],
            input="\n".join(lines) + "\n", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"ip {lines}: {done.stderr}"

    # What runs in a node

    def freeze(self, name: str) -> None:
        self._signal_all(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._signal_all(name, signal.SIGCONT)

    def _signal_all(self, name: str, number: signal.Signals) -> None:
        with self._lock:
            node = self._on[name]
            node.frozen = number == signal.SIGSTOP
            done: set[int] = set()
            while new := set(_processes_of(node.first)) - done:  # until no fork has escaped
                for pid in new:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                done |= new

    def run(self, name: str, *words: str, given: str = "", within: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """A command in a node, with what it said; its exit code is for the caller to judge."""
        node = self._on[name]
        assert not node.frozen, f"{name} is frozen: it would not answer {words}"
        wait_for((self.folder / name / "ready").exists, lambda: f"{name} to boot: {self.console(name)}", 30.0)
        return subprocess.run(
            ["nsenter", "--target", str(node.first), *ENTER, "--", *words],
            input=given, capture_output=True, text=True, timeout=within, check=False,
            env=_environment(), preexec_fn=die_with_parent(signal.SIGKILL),
        )  # fmt: skip

    def awake(self) -> list[str]:
        """The nodes that are on, wired and not frozen."""
        with self._lock:
            cut = {name for name, wire in self._cut if wire == "ring"}
            return [name for name in self.names if self.is_on(name) and name not in cut and not self._on[name].frozen]

    def console(self, name: str) -> str:
        path = self.folder / name / "console"
        return path.read_text()[-2000:] if path.exists() else "(nothing)"


def _environment() -> dict[str, str]:
    """Of what runs in a node: none of ours."""
    return {"PATH": PATH, "HOME": "/run", "LC_ALL": "C.UTF-8"}


def _processes_of(first: int) -> list[int]:
    """All processes, seen from here, of the pid namespace of this one."""
    own = pathlib.Path(f"/proc/{first}/ns/pid").readlink()
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "ns" / "pid").readlink() == own:
                    found.append(int(entry.name))
    return found
