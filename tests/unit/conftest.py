"""What tests of packs that run without a slot share."""

import os
import pathlib
from collections.abc import Iterator

import pytest

from qslots import tasks
from qslots.handlers import Registry
from qslots.scoreboard import Field, Record, Scoreboard


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test declares is forgotten when it ends."""
    monkeypatch.setattr(tasks, "REGISTRY", Registry())


@pytest.fixture
def record(tmp_path: pathlib.Path) -> Iterator[Record]:
    """The scoreboard record of a slot whose lock lasts."""
    board = Scoreboard.create(str(tmp_path / "board"))
    found = board.record(0)
    found.put_text("holder", b"web-7/3/x.1")
    found.words[Field.LOCK_UNTIL] = 1 << 62
    yield found
    os.close(board.descriptor)
