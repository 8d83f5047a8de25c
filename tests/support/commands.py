"""Which commands of the queue server a script may call: read from its text, through the functions that it uses."""

import pathlib
import re

LUA = pathlib.Path(__file__).parents[2] / "slots" / "qslots" / "lua"

_FUNCTION = re.compile(r"^(?:local )?function ([\w.]+)\((?:[^\n]* end$|.*?^end$)", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"""(?:call|in_chunks)\(\s*['"](\w+)['"]""")


def commands(script: str) -> set[str]:
    """The commands that ``lua/<script>.lua`` may call, in lower case."""
    place, _, _ = script.partition("/")
    raw = (LUA / f"{script}.lua").read_text()
    named = re.search(r"^-- with: *(.*)$", raw, re.MULTILINE)
    rooms = ["prelude", *(named[1].split() if named else [])]
    shared = "" if "nothing" in rooms else "".join(_code(LUA / place / f"{room}.lua") for room in rooms)
    functions = {match[1]: match[0] for match in _FUNCTION.finditer(shared)}
    used = _FUNCTION.sub("", shared) + _code(LUA / f"{script}.lua")
    while reached := [name for name in functions if _mentions(used, name)]:
        used += "".join(functions.pop(name) for name in reached)
    return {name.lower() for name in _CALL.findall(used)}


def _mentions(code: str, function: str) -> bool:
    table, dot, _ = function.partition(".")  # of a table of functions, all are meant where one is picked
    return bool(re.search(rf"\b{table}" + (r"[.\[]" if dot else r"\b"), code))


def _code(path: pathlib.Path) -> str:
    return re.sub(r"--.*", "", path.read_text()) if path.exists() else ""
