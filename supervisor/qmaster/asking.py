"""How a command asks the running master of a server, and which masters listen on this machine."""

import pathlib
from functools import partial

from qslots.daemon import asking


def absent(path: pathlib.Path) -> str:
    """Nobody listens there: what to do about it, in one line."""
    others = [each.removesuffix(".sock") for each in servers_in(path.parent) if each != path.stem]
    if others:
        return f"no qmaster called {path.stem} is running here; there is {', '.join(others)}: --server {others[0]}"
    return (
        f"no qmaster is running here: nobody listens at {path}; start it with `qmaster run`, or if it runs ask as its "
        "user with its -c FILE and --server NAME, or in the folder of its `qslots up`"
    )


def servers_in(folder: pathlib.Path) -> list[str]:
    """The names of the masters that listen in this runtime folder."""
    try:
        found = sorted(path for path in folder.glob("*.sock") if path.is_socket())
    except OSError:
        return []
    return [path.stem for path in found if asking.listens(path)]


ask = partial(asking.ask, who="qmaster", absent=absent)
