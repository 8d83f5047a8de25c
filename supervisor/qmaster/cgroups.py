"""Finds the control groups that hold this process, of both versions (a hybrid host has both), in containers too.

Shell: it walks /proc and the trees that are mounted, anew each time, for a group may come and go. It must never guess:
a file that is not there says that there is no limit; one that may not be read is an error that names it.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qslots.errors import Error

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Group:
    """One group: its controller's version (1 or 2), its path in its tree, and the folder in which that is seen here."""

    version: int
    path: PurePosixPath
    folder: Path


def ours(controller: str, *, proc: Path = PROC) -> Iterator[Group]:
    """Our group and its ancestors, as far as they are mounted here: those of ``controller`` in version 1, and those of
    version 2, whose controllers share one tree.
    """
    member = _membership(controller, proc)
    for line in (proc / "self" / "mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        root, mounted = left.split()[3:5]
        kind, _, options = right.split(maxsplit=2)
        version = _version(kind, options.split(","), controller)
        if version not in member or not member[version].is_relative_to(root):
            continue  # another controller, or a tree that we are not in
        below = member[version].relative_to(root)
        if ".." in below.parts:
            continue  # outside our cgroup namespace: its files cannot be seen from here
        for part in (below, *below.parents):
            yield Group(version, PurePosixPath(root) / part, Path(mounted) / part)


def text(file: Path) -> str | None:
    """The file's text; None where there is none: a root has no limit, and a group may go while it is read."""
    try:
        with open(file, "rb", buffering=0) as raw:  # noqa: PTH123 - a third of the time of read_text
            return raw.read().decode().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise Error(f"{file} cannot be read ({error.strerror}): let the user of qmaster read it") from None


def _version(kind: str, controllers: list[str], controller: str) -> int:
    if kind == "cgroup2":
        return 2
    return 1 if kind == "cgroup" and controller in controllers else 0


def _membership(controller: str, proc: Path) -> dict[int, PurePosixPath]:
    """Version -> path of our group, counted from the root of its tree."""
    member: dict[int, PurePosixPath] = {}
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            member[2] = PurePosixPath(path)
        elif controller in controllers.split(","):
            member[1] = PurePosixPath(path)
    return member
