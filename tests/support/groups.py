"""Control groups of a test's own, with a limit of memory."""

import contextlib
import pathlib
import secrets
from collections.abc import Iterator

import pytest

from .waiting import wait_for


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[pathlib.Path]:
    """In this block there is a group of so many bytes, of whichever version this machine lets us make. Skips where it
    lets us make none.
    """
    lines = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()]
    places = {kinds: path.lstrip("/") for _, kinds, path in lines}
    if "memory" in places:
        parent, file = pathlib.Path("/sys/fs/cgroup/memory", places["memory"]), "memory.limit_in_bytes"
    else:
        parent, file = pathlib.Path("/sys/fs/cgroup", places.get("", "")), "memory.max"
    group = parent / f"qslots-test-{secrets.token_hex(4)}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        if not (group / file).exists():
            pytest.skip(f"no memory controller in {parent}")
        (group / file).write_text(str(limit))
        yield group
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "all processes of the group to end", 30.0)
        group.rmdir()
