"""Control groups of a test's own."""

import contextlib
import pathlib
import secrets
from collections.abc import Iterable, Iterator

import pytest

from .waiting import wait_for


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[pathlib.Path]:
    """In this block there is a group of so many bytes. Skips where this machine lets us make none."""
    with _group("memory", ("memory.max", "memory.limit_in_bytes")) as (group, file):
        file.write_text(str(limit))
        yield group


@contextlib.contextmanager
def process_group() -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """In this block there is a group, and the file of the most processes it may have. Skips as above."""
    with _group("pids", ("pids.max",)) as (group, file):
        try:
            yield group, file
        finally:
            file.write_text("max")


@contextlib.contextmanager
def _group(controller: str, files: Iterable[str]) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """A group below our own, of whichever version this machine has, and that of its ``files`` which is there."""
    lines = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()]
    places = {kind: path.lstrip("/") for _, kinds, path in lines for kind in kinds.split(",")}
    root = pathlib.Path("/sys/fs/cgroup")
    parent = root / controller / places[controller] if controller in places else root / places.get("", "")
    group = parent / f"qslots-test-{secrets.token_hex(4)}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        found = [group / name for name in files if (group / name).exists()]
        if not found:
            pytest.skip(f"no {controller} controller in {parent}")
        yield group, found[0]
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "all processes of the group to end", 30.0)
        group.rmdir()
