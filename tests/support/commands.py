"""Which commands of the queue server a script may call: read from its text, through the functions that it uses."""

import pathlib
import re

LUA = pathlib.Path(__file__).parents[2] / "slots" / "qslots" / "lua"

_FUNCTION = re.compile(r"^(?:local )?function ([\w.]+)\((?:[^\n]* end$|.*?^end$)", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"""(?:call|in_chunks)\(\s*['"](\w+)['"]""")
_WITH = re.compile(r"^-- with: *(.*)$", re.MULTILINE)


def scripts() -> set[str]:
    """All scripts, as ``place/name``; rooms are none."""
    found = LUA.glob("*/*.lua")
    return {f"{path.parent.name}/{path.stem}" for path in found if "\n-- flags:" in path.read_text()}


def commands(script: str) -> set[str]:
    """The commands that ``lua/<script>.lua`` may call, in lower case."""
    place, _, name = script.partition("/")
    text = (LUA / place / f"{name}.lua").read_text()
    shared = "".join(_code((LUA / place / f"{room}.lua").read_text()) for room in rooms(place, text))
    functions = {match[1]: match[0] for match in _FUNCTION.finditer(shared)}
    used = _FUNCTION.sub("", shared) + _code(text)
    while reached := [name for name in functions if _mentions(used, name)]:
        used += "".join(functions.pop(name) for name in reached)
    return {name.lower() for name in _CALL.findall(used)}


def rooms(place: str, text: str) -> list[str]:
    """What is sent before a script: see scripts.py."""
    said = _WITH.search(text)
    named = said[1].split() if said else []
    return [] if place != "queue" or named == ["nothing"] else ["prelude", *named]


def _mentions(code: str, function: str) -> bool:
    table, dot, _ = function.partition(".")  # of a table of functions, all are meant where one is picked
    return bool(re.search(rf"\b{table}" + (r"[.\[]" if dot else r"\b"), code))


def _code(text: str) -> str:
    return re.sub(r"--.*", "", text)
