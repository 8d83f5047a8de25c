"""What the kernel says of a system's processes: who they are, what memory they use, what processor time they took."""

import contextlib
import pathlib
from dataclasses import dataclass

PROC = pathlib.Path("/proc")
GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Memory:
    """One process as its smaps_rollup has it, bytes."""

    pss: int
    private: int  # Private_Clean + Private_Dirty + SwapPss
    page_tables: int


def descendants(root: int) -> list[int]:
    """The process and all below it."""
    found = [root]
    for pid in found:
        with contextlib.suppress(*GONE):
            for thread in (PROC / str(pid) / "task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def parent(pid: int) -> int:
    """Its parent; 0 if it is gone."""
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except GONE:
        return 0


def title(pid: int) -> str:
    """Its command line."""
    return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def memory(pid: int) -> Memory | None:
    """What it uses; None if it is gone."""
    try:
        rollup, status = (_kilobytes(PROC / str(pid) / name) for name in ("smaps_rollup", "status"))
    except GONE:
        return None
    private = rollup["Private_Clean"] + rollup["Private_Dirty"] + rollup["SwapPss"]
    return Memory(rollup["Pss"], private, status["VmPTE"])


def _kilobytes(path: pathlib.Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) << 10 for words in lines if words[-1:] == ["kB"]}


def processor(pid: int) -> int:
    """ns of processor time that it has taken, threads that have ended left out; 0 if it is gone."""
    spent = 0
    with contextlib.suppress(*GONE):
        for thread in (PROC / str(pid) / "task").iterdir():
            spent += int((thread / "schedstat").read_text().split()[0])
    return spent
