"""Late imports, as far as the source tells: imports inside functions of modules that are not loaded yet.

Each slot that comes by one loads the module for itself alone; loaded in the mold it is there once. Reads the sources of
the application's own modules; it must never import anything.
"""

import ast
import contextlib
import importlib.machinery
import importlib.util
import pathlib
import sys
import types
from collections.abc import Iterable, Iterator

import msgspec

MOST = 100
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Late(msgspec.Struct, frozen=True):
    """One import that slots would do: file:line, what it imports, in which function."""

    where: str
    module: str
    function: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.where} imports {self.module} inside {self.function}(): preload it"


def in_functions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.Import | ast.ImportFrom]]:
    """(function, import statement) for every import that runs when a function is called."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            if within:
                yield within, node
        elif isinstance(node, _FUNCTIONS):
            yield from in_functions(node, node.name)
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from in_functions(node, within)


def predicted(packages: Iterable[str]) -> list[Late]:
    """Those in the loaded modules of these top-level packages, by place."""
    tops, found = set(packages), []
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None) if name.partition(".")[0] in tops else None
        if file is None or not file.endswith(".py"):
            continue
        path = pathlib.Path(file)
        shown = path.relative_to(pathlib.Path.cwd()) if path.is_relative_to(pathlib.Path.cwd()) else path
        with contextlib.suppress(OSError, SyntaxError):  # a file that is not there, or not as it was loaded
            for function, statement in in_functions(ast.parse(path.read_bytes(), file)):
                found += [Late(f"{shown}:{statement.lineno}", each, function) for each in _missing(statement, module)]
    return found[:MOST]


def _missing(statement: ast.Import | ast.ImportFrom, where: types.ModuleType) -> list[str]:
    """The modules that it would load now. One that is nowhere to be found is none: it is optional."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names if alias.name not in sys.modules and _exists(alias.name)]
    base = statement.module or ""
    if statement.level:
        base = importlib.util.resolve_name("." * statement.level + base, where.__package__ or where.__name__)
    there = sys.modules.get(base)
    if there is None:
        return [base] if _exists(base) else []
    names = [alias.name for alias in statement.names if alias.name not in vars(there)]
    wholes = [f"{base}.{name}" for name in names]
    return [whole for whole in wholes if whole not in sys.modules and _exists(whole)]


def _exists(name: str) -> bool:
    """Whether it could be imported, as far as can be told without importing what is above it."""
    above, _, _ = name.rpartition(".")
    if above and above not in sys.modules:
        return _exists(above)
    if above:
        path = getattr(sys.modules[above], "__path__", None)
        return path is not None and importlib.machinery.PathFinder.find_spec(name, path) is not None
    return importlib.util.find_spec(name) is not None
