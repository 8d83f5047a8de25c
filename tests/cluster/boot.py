"""The first process of a node: gives it a machine's surroundings, starts corosync and pacemaker, and buries the dead.

    python boot.py FOLDER NAME     in new pid, mount, net, uts and ipc namespaces, see ``rack``

It says its pid on stdout, waits for a line on stdin (the wires are there), and creates ``NAME/ready`` when commands may
enter. /etc, /opt, /usr and /var are copy-on-write, /run and /dev/shm are its own, all else is shared with the machine.
What pacemaker would do to a machine that it gives up is kept from the real one. To end it is to cut the power.
"""

import contextlib
import ctypes
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

DISKS = ("etc", "opt", "usr", "var")
READY = 20.0  # s for corosync to answer
_BIND, _REMOUNT, _READ_ONLY = 4096, 32, 1
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
    print(pathlib.Path("/proc/self").readlink(), flush=True)  # the machine's /proc still: our pid there
    furnish(folder, name)
    if not sys.stdin.readline():
        sys.exit("the rack is gone")
    address(folder / name)
    install(folder, name)
    start(["corosync", "-f"])
    until_answering(["corosync-cmapctl", "-g", "totem.version"])
    start(["pacemakerd"])
    (folder / name / "ready").touch()
    start(["sleep", "infinity"])  # so that there is somebody to wait for whatever dies
    while True:  # PID 1 is the parent of all orphans
        os.wait()


def furnish(folder: pathlib.Path, name: str) -> None:
    """Disks, memory file systems, a /proc of its own, a name."""
    for disk in DISKS:
        upper, work = (folder / "disks" / f"{name}-{disk}-{part}" for part in ("upper", "work"))
        upper.mkdir(exist_ok=True)
        work.mkdir(exist_ok=True)
        mount("overlay", f"/{disk}", kind="overlay", data=f"lowerdir=/{disk},upperdir={upper},workdir={work}")
    mount("tmpfs", "/run", kind="tmpfs", data="mode=755")
    mount("tmpfs", "/dev/shm", kind="tmpfs", data="mode=1777")
    pathlib.Path("/run/lock").mkdir(mode=0o1777)
    logs = folder / name / "log"
    for packaged in (path for path in pathlib.Path("/var/log").iterdir() if path.is_dir()):
        own, known = logs / packaged.name, packaged.stat()
        own.mkdir(parents=True, exist_ok=True)
        os.chown(own, known.st_uid, known.st_gid)
        own.chmod(known.st_mode)
    mount(str(logs), "/var/log", flags=_BIND)
    mount("proc", "/proc", kind="proc")
    disarm()
    socket.sethostname(name)


def disarm() -> None:
    """Nothing in here may reboot the machine, feed its watchdog or set its kernel's parameters."""
    deadly = [pathlib.Path("/proc/sysrq-trigger"), *pathlib.Path("/dev").glob("watchdog*")]
    for path in deadly:
        if path.exists():
            mount("/dev/null", str(path), flags=_BIND)
    mount("/proc/sys", "/proc/sys", flags=_BIND)
    mount("none", "/proc/sys", flags=_BIND | _REMOUNT | _READ_ONLY)


def address(own: pathlib.Path) -> None:
    subprocess.run(["ip", "-batch", str(own / "addresses")], check=True)


def install(folder: pathlib.Path, name: str) -> None:
    """Files that every boot lays anew; the cluster's memory only where the disk has none."""
    for source in (path for path in (folder / "files").rglob("*") if path.is_file()):
        place = pathlib.Path("/", source.relative_to(folder / "files"))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    pathlib.Path("/etc/hostname").write_text(f"{name}\n")
    memory = pathlib.Path("/var/lib/pacemaker/cib/cib.xml")
    if not memory.exists():
        shutil.copyfile(folder / "cib.xml", memory)
        shutil.chown(memory, "hacluster", "haclient")
        memory.chmod(0o600)


def start(words: list[str]) -> None:
    subprocess.Popen(words, stdin=subprocess.DEVNULL, env={**os.environ, "PCMK_logfacility": "none"})


def until_answering(words: list[str]) -> None:
    deadline = time.monotonic() + READY
    while subprocess.run(words, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            sys.exit(f"{words[0]} was not answered within {READY:g} s")
        time.sleep(0.05)


def mount(what: str, where: str, *, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    words = [word.encode() if word is not None else None for word in (what, where, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), data.encode() if data else None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {what} on {where}: {os.strerror(number)}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
