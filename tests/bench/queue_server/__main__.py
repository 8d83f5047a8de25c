"""How fast the queue server is: figures beside their goals, not tests.

    python tests/bench/queue_server [--quick] [--deep] [--rounds 5] [--server PATH] [--json]

It starts a private queue server, logging as that of `qslots up` does; only rewrites of the log are held off, so that
none falls into one figure and not into the next. Rounds alternate between what is compared; medians are printed.
A folder, because a file ``queue.py`` on the path would hide the standard library's.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import crowd
import depth
import packs
import rates
import redis
from figures import Plan, Result
from rich.console import Console
from rich.table import Table

from qslots import embedded

MEASUREMENTS: dict[str, Callable[[Plan], Result | list[Result]]] = {
    "packs": packs.measure,
    "bytes": depth.bytes_a_task,
    "puts": rates.puts,
    "drain": rates.drain,
    "enqueue": rates.one_enqueue,
    "crowd": crowd.measure,
    "depth": depth.measure,
}


def prepared(folder: pathlib.Path, binary: str | None) -> embedded.Embedded:
    """A private server: this machine's best, or the one asked for."""
    if binary is None:
        return embedded.prepare(folder)
    return embedded.Embedded(folder, embedded.claim(folder), binary)


def machine(url: str) -> dict[str, Any]:
    """What the figures were measured on."""
    client = redis.Redis.from_url(url)
    info: dict[str, Any] = client.info("server")
    client.config_set("auto-aof-rewrite-percentage", 0)
    client.close()
    return {
        "server": info["executable"],
        "version": f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "redis-py": redis.__version__,
        "load before": round(os.getloadavg()[0], 2),
    }


def measured(plan: Plan, names: list[str]) -> list[Result]:
    """All results, in order."""
    found: list[Result] = []
    for name in names:
        results = MEASUREMENTS[name](plan)
        found += results if isinstance(results, list) else [results]
    return found


def table(results: list[Result]) -> Table:
    """One aligned line a figure."""
    made = Table("what", "", "", "goal", "beside it", box=None, pad_edge=False)
    made.columns[1].justify = "right"
    for each in results:
        beside = ", ".join(f"{what} {_number(value)}" for what, value in each.beside.items())
        figure = "" if each.figure is None else _number(each.figure)
        made.add_row(each.what, figure, each.unit, each.goal, each.note or beside)
    return made


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-queue", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="under 20 s: does it work at all?")
    parser.add_argument("--deep", action="store_true", help="queues of up to ten million tasks (6 GB of memory)")
    parser.add_argument("--rounds", type=int, help="how often each block is repeated (5)")
    parser.add_argument("--server", metavar="PATH", help="the redis-server or valkey-server to measure")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="only this measurement; repeatable")
    parser.add_argument("--json", action="store_true", help="one document instead of the table")
    chosen = parser.parse_args()
    if chosen.server and shutil.which(chosen.server) is None:
        parser.error(f"--server {chosen.server}: no such program")
    return chosen


def main() -> None:
    """Measures and prints."""
    chosen = parsed()
    rounds = chosen.rounds or (1 if chosen.quick else 5)
    deepest = 10_000_000 if chosen.deep else 10_000 if chosen.quick else 1_000_000
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="qs") as name,
        prepared(pathlib.Path(name) / "data", chosen.server) as server,
    ):
        server.spawn()
        server.wait_ready(_tell)
        on = machine(server.url)
        plan = Plan(server.url, _tell, rounds, quick=chosen.quick, deepest=deepest)
        results = measured(plan, chosen.only or list(MEASUREMENTS))
    on["seconds"] = round(time.monotonic() - began)
    if chosen.json:
        print(json.dumps({"on": on, "results": [dataclasses.asdict(each) for each in results]}, indent=2))
        return
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table(results))
    console.print(", ".join(f"{what} {value}" for what, value in on.items()), style="dim", highlight=False)


if __name__ == "__main__":
    main()
