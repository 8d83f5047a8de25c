"""What lives in, or knows of, a folder of a test: so that nothing is left behind when the test ends."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


def processes_in(folder: pathlib.Path) -> list[int]:
    """The living processes whose working folder lies in this folder."""
    found = []
    for entry in _others():
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
    return found


def living_of(folder: pathlib.Path) -> list[int]:
    """These, and those whose command line names something in this folder."""
    found = processes_in(folder)
    for entry in _others():
        with contextlib.suppress(OSError):
            if os.fsencode(folder) + b"/" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def title(pid: int) -> str:
    """The title of a process, "" if it is gone."""
    try:
        raw = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def _others() -> Iterator[pathlib.Path]:
    ours = str(os.getpid())
    return (entry for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit() and entry.name != ours)
