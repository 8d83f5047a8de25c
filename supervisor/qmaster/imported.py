"""What slots import after the fork, summed up by generation: each of them pays for what the mold could share. Pure."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

WORTH_A_LINE = 1 << 20  # bytes a slot
MOST_KINDS = 20  # sets of modules told apart in one generation
_MB = 1 << 20


@dataclass(slots=True)
class Seen:
    """One set of modules: how much memory a slot has grown by while it imported them, and which slots have."""

    bytes: int = 0
    slots: set[int] = field(default_factory=set)


class Imported:
    """Of the newest generation that any slot has told of."""

    def __init__(self) -> None:
        self._generation = 0
        self._seen: dict[tuple[str, ...], Seen] = {}

    def heard(self, generation: int, index: int, modules: tuple[str, ...], more: int) -> str:
        """A slot has imported these; returns the line for the log if this is news that matters."""
        if generation > self._generation:
            self._generation, self._seen = generation, {}
        is_new = modules not in self._seen
        if generation < self._generation or (is_new and len(self._seen) >= MOST_KINDS):
            return ""
        seen = self._seen.setdefault(modules, Seen())
        seen.bytes = max(seen.bytes, more)
        seen.slots.add(index)
        if not is_new or more < WORTH_A_LINE:
            return ""
        names = briefly(modules)
        return f"imports after fork: {names} +{more // _MB} MB a slot: import them at the top of the application"

    def status(self) -> list[dict[str, object]]:
        """For the control socket, the largest first; bytes of one slot."""
        found = sorted(self._seen.items(), key=lambda each: -each[1].bytes)
        return [{"modules": list(names), "bytes": seen.bytes, "slots": len(seen.slots)} for names, seen in found]


def briefly(modules: Sequence[str]) -> str:
    """Names for one line: those of Python's own library come along with the others, and are told only if alone."""
    modules = [name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names] or modules
    return ", ".join(modules[:5]) + (f" and {len(modules) - 5} more" if len(modules) > 5 else "")
