"""What a fleet costs in memory, beside Celery and gunicorn doing the same; what it costs to wait. Figures, not tests.

    python tests/bench/memory [--only NAME] [--work small|light] [--workers 24] [--tasks 10000] [--seconds 60] [--json]

Each system is started alone, on a private queue server, with the same application and the same tasks, and ended by pid,
also at ^C. What is compared is measured in one run, on one machine.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable

import births
import footprint
import idle
from figures import Result, printed
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from systems import Bench, BenchError

from qslots import embedded

NEEDED = ("celery", "django", "gunicorn", "numpy", "pandas", "sklearn")  # where others are compared with us
COMPARED = ("footprint", "births")
MEASUREMENTS: dict[str, Callable[[Bench, argparse.Namespace], list[Result]]] = {
    "footprint": lambda bench, chosen: footprint.measure(bench, chosen.work or list(footprint.WORK)),
    "births": lambda bench, _: births.measure(bench),
    "idle": lambda bench, chosen: idle.of_idling(bench, chosen.slots, chosen.seconds),
    "measuring": lambda bench, chosen: idle.of_measuring(bench, chosen.slots, chosen.seconds),
}
BAR = 40


def picture(results: list[Result]) -> Table:
    """The sums as bars."""
    sums = [each for each in results if each.unit == "MB" and each.what.startswith("sum of PSS")]
    most = max((each.figure for each in sums), default=1.0)
    drawn = Table(box=None, pad_edge=False, show_header=False)
    for each in sums:
        bar = ProgressBar(most, each.figure, width=BAR)
        drawn.add_row(each.what, bar, f"{each.figure:,.0f} MB")
    return drawn


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    found = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    versions = {name: found[name] for name in ("celery", "gunicorn", "numpy", "pandas", "django") if name in found}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return {
        "cpus": os.cpu_count(), "GB": pages, "linux": platform.release(), "python": platform.python_version(),
        "load before": round(os.getloadavg()[0], 2), **versions,
    }  # fmt: skip


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-memory", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="only this measurement; repeatable")
    parser.add_argument("--work", action="append", choices=footprint.WORK, help="only this kind of work; repeatable")
    parser.add_argument("--workers", type=int, default=24, help="of each system (24)")
    parser.add_argument("--tasks", type=int, default=10_000, help="that each system does (10,000)")
    parser.add_argument("--objects", type=int, default=200_000, help="small objects of the application (200,000)")
    parser.add_argument("--touched", type=int, default=200, help="of them that the tasks look at (200)")
    parser.add_argument("--slots", type=int, default=idle.SLOTS, help="that idle, or are measured (100)")
    parser.add_argument("--seconds", type=float, default=60.0, help="that idle slots are watched (60)")
    parser.add_argument("--json", action="store_true", help="one document instead of the table")
    return parser.parse_args()


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def measured(chosen: argparse.Namespace) -> list[Result]:
    """All that was asked for, in a folder and on a queue server of its own."""
    with tempfile.TemporaryDirectory(prefix="qs") as name, embedded.prepare(pathlib.Path(name) / "data") as server:
        server.spawn()
        server.wait_ready(say)
        folder = pathlib.Path(name)
        bench = Bench(folder, server, say, chosen.workers, chosen.tasks, chosen.touched, chosen.objects)
        names = chosen.only or list(MEASUREMENTS)
        return [result for each in names for result in MEASUREMENTS[each](bench, chosen)]


def main() -> int:
    """Measures and prints; the exit code."""
    chosen = parsed()
    compares = not {*COMPARED}.isdisjoint(chosen.only or MEASUREMENTS)
    missing = [name for name in NEEDED if compares and importlib.util.find_spec(name) is None]
    if missing:
        say(f"make bench-memory: {', '.join(missing)} not installed: pip install 'qslots[bench]'")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began, on = time.monotonic(), machine()
    try:
        results = measured(chosen)
    except BenchError as error:
        say(f"make bench-memory: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    on["seconds"] = round(time.monotonic() - began)
    sums = any(each.what.startswith("sum of PSS") for each in results)
    note = Text(footprint.NOTE if sums else "", style="dim")
    printed(results, on, picture(results), note, as_json=chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
