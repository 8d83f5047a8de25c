"""Finds the source files of the running interpreter's standard library and cuts them into searchable sections.

Reads files, never imports or runs them. What cannot be parsed (the library ships broken files on purpose, as tests)
is kept as one section, so that every file that can be read is in the index.
"""

import ast
import dataclasses
import io
import os
import pathlib
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator

NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}
WHOLE = "(module)"


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A run of lines under one name: ``Popen.wait`` from its first decorator to the next definition."""

    name: str
    line: int
    body: str


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One source file, ready for the index."""

    path: str
    lines: int
    sections: tuple[Section, ...]


def library() -> pathlib.Path:
    """The folder of the running interpreter's standard library, also from inside a virtual environment."""
    return pathlib.Path(sysconfig.get_path("stdlib"))


def find_sources(root: pathlib.Path) -> list[str]:
    """Every readable Python file under ``root`` but installed packages, in a stable order."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - NOT_THE_LIBRARY)
        paths = (pathlib.Path(folder, name) for name in sorted(files) if name.endswith(".py"))
        found += [str(path) for path in paths if path.is_file() and os.access(path, os.R_OK)]
    return found


def read_page(path: str) -> Page:
    """The file at ``path``, cut; OSError where it cannot be read."""
    text = _decode(pathlib.Path(path).read_bytes())
    lines = io.StringIO(text).readlines()  # str.splitlines would also split at form feeds, ast does not
    return Page(path, len(lines), tuple(cut(text, lines)))


def cut(text: str, lines: list[str]) -> Iterator[Section]:
    """Sections that cover every line once; the head of the file, or all of it, is named ``(module)``."""
    starts = [(1, WHOLE), *_definitions(text)]
    ends = [line for line, _ in starts[1:]] + [len(lines) + 1]
    for (line, name), end in zip(starts, ends, strict=True):
        yield Section(name, line, "".join(lines[line - 1 : end - 1]))


def _decode(raw: bytes) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        text = raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _definitions(text: str) -> list[tuple[int, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old test files are none of our business
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    at_line = dict(_walk(tree.body, ""))  # two definitions on one line: the latter names it
    return sorted(at_line.items())


def _walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[int, str]]:
    definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in body:
        if isinstance(node, definition):
            yield min([node.lineno, *(each.lineno for each in node.decorator_list)]), prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from _walk(node.body, f"{prefix}{node.name}.")
