"""Looks for objects of known classes in the heap, and for their names in modules; imports nothing and changes nothing.

Called in the mold before the heap is frozen, so before there is anything shared that could be unshared. It must never
call into the objects on the way: some resolve themselves when they are only asked for their class.
"""

import gc
import sys
import types
from collections.abc import Container, Iterator

_OURS = {"qslots", "qmaster", "pytest_qslots"}


def known(module: str, name: str) -> type | None:
    """A class of a module, if something has imported that already."""
    there = sys.modules.get(module)
    kind = there.__dict__.get(name) if isinstance(there, types.ModuleType) else None
    return kind if isinstance(kind, type) else None


def with_subclasses(kind: type) -> set[type]:
    """The class and all below it."""
    below: list[type] = type.__subclasses__(kind)
    return {kind}.union(*(with_subclasses(each) for each in below))


def instances(kinds: Container[type]) -> list[object]:
    """All objects of just these classes that the collector knows of: 9 ms for 500,000 objects."""
    return [each for each in gc.get_objects() if type(each) in kinds]


def module_globals() -> Iterator[tuple[str, object]]:
    """(module.name, value) of all modules but the standard library's and ours."""
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if issubclass(type(module), types.ModuleType) and top not in sys.stdlib_module_names and top not in _OURS:
            space = object.__getattribute__(module, "__dict__")  # of a lazy module too, without loading it
            for key, value in list(space.items()):
                yield f"{name}.{key}", value


def names_of(objects: list[object]) -> dict[int, str]:
    """id -> the name under which a module keeps it."""
    wanted = {id(each) for each in objects}
    return {id(value): name for name, value in module_globals() if id(value) in wanted} if wanted else {}
