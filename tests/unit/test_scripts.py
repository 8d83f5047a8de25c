"""A script is sent with the rooms that its head names: each function that it uses, itself or through them, is there."""

import pathlib
import re

import pytest

from qslots.scripts import script

LUA = pathlib.Path(__file__).parents[2] / "slots" / "qslots" / "lua"
ROOMS = ("prelude", "gates", "fates", "places", "gating", "locks", "outcomes")
SCRIPTS = sorted(path.stem for path in (LUA / "queue").glob("*.lua") if path.stem not in ROOMS)
DEFINED = re.compile(r"local function (\w+)")
CALLED = re.compile(r"(?<![\w.:])([a-z_]+)\(")
LUAS_OWN = {
    "tonumber",
    "type",
    "unpack",
    "ipairs",
    "pairs",
    "select",
    "next",
    "call",
    "and",
    "or",
    "not",
    "function",
    "if",
}


def code(text: str) -> str:
    """Without comments and texts."""
    return re.sub(r"'[^'\n]*'", "''", re.sub(r"--.*", "", text))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_function_that_a_script_calls_is_sent_with_it(name: str) -> None:
    sent = code(script("queue", name, True).text)
    called = {word for word in CALLED.findall(sent) if word not in LUAS_OWN}
    assert called - set(DEFINED.findall(sent)) - {"check"} == set()  # check: a parameter


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_is_sent_with_a_room_that_nothing_of_it_needs(name: str) -> None:
    sent = code(script("queue", name, True).text)
    named = re.search(r"^-- with: *(.*)$", (LUA / "queue" / f"{name}.lua").read_text(), re.MULTILINE)
    for room in named[1].split() if named and named[1] != "nothing" else []:
        own = code((LUA / "queue" / f"{room}.lua").read_text())
        elsewhere = sent.replace(own, "")
        names = re.findall(r"^local (?:function )?(\w+)", own, re.MULTILINE)
        names += [
            each.strip() for found in re.findall(r"^local ([\w, ]+) =", own, re.MULTILINE) for each in found.split(",")
        ]
        assert any(re.search(rf"\b{each}\b", elsewhere) for each in names), room
