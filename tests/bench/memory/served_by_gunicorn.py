"""The application as gunicorn serves it: each request is a task."""

from collections.abc import Callable, Iterable
from typing import Any

import application


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """One task: the path is its number."""
    application.work(int(environ["PATH_INFO"].strip("/")))
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
