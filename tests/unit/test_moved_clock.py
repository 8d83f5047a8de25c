"""Every script that asks for the time asks a testing server for the moved one, and is else the same."""

import pathlib

import pytest

from qslots.scripts import script
from qslots.testing.clock import moved

LUA = pathlib.Path(__file__).parents[2] / "slots" / "qslots" / "lua"
SCRIPTS = [
    (path.parent.name, path.stem) for path in sorted(LUA.glob("*/*.lua")) if "\n-- flags:" in path.read_text()
]  # fmt: skip


@pytest.mark.parametrize(("place", "name"), SCRIPTS)
def test_a_script_asks_for_the_time_in_one_way(place: str, name: str) -> None:
    usual, other = script(place, name, True).text, moved(place, name, True).text
    asks = "call('TIME')" in usual
    assert ("moved_time()" in other) == asks
    assert other.count("call('TIME')") == asks  # by the moved clock itself
    assert other.splitlines()[0] == usual.splitlines()[0]
    if asks:
        assert ("local TICKS = true" in other) == ("no-writes" not in usual.splitlines()[0])
    else:
        assert other == usual


def test_real_servers_never_hear_of_the_moved_clock() -> None:
    assert not any("testing" in script(place, name, True).text for place, name in SCRIPTS)
