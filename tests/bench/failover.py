"""How long a cluster is without a manager: seconds from a fault to the first map of another reign, on a real pacemaker.

    python tests/bench/failover.py [--rounds 5] [--only WORD] [--json]

Each round does every fault once to three nodes made of namespaces (see ``tests/cluster``), while slots on two masters
have work; medians and maxima stand beside the goal, with the longest time in which no task began. Needs root.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cluster.faults import FAULTS
from cluster.pacemaker import PROGRAMS
from cluster.rack import lacking
from cluster.site import GOAL, Site

LONGEST = 60.0  # s: what takes longer is not waited for


def main() -> int:
    """Ends with 1 where no cluster can be made, or a map was accepted that should not have been."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only faults whose name has this in it")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if reason := lacking(PROGRAMS):
        print(f"bench-failover: {reason}", file=sys.stderr)
        return 1
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qc-", dir="/tmp"))
    folder.chmod(0o755)
    site = Site(folder)
    try:
        chosen = [fault for fault in FAULTS if args.only in fault]
        rounds = [{fault: measured(site, fault) for fault in chosen} for _ in range(args.rounds)]
        faults = site.publishes.faults()
    finally:
        site.stop()
    shutil.rmtree(folder)
    results = [result(fault, [each[fault] for each in rounds]) for fault in chosen]
    print(json.dumps({"goal": GOAL, "results": results}) if args.json else table(results, args.rounds))
    print("\n".join(faults), end="", file=sys.stderr)
    return 1 if faults else 0


def measured(site: Site, fault: str) -> tuple[float, float]:
    """Seconds without a manager, and without the beginning of a task."""
    site.settle()
    former = site.last
    with site.undisturbed() as work:
        began = time.time()
        FAULTS[fault](site)
        new = site.publishes.next_reign(former, LONGEST)
    return new.at - began, work.pause


def result(fault: str, seen: Sequence[tuple[float, float]]) -> dict[str, object]:
    times, pauses = zip(*seen, strict=True)
    return {
        "fault": fault, "median": round(statistics.median(times), 2), "max": round(max(times), 2),
        "met": max(times) <= GOAL, "pause": round(max(pauses), 2),
    }  # fmt: skip


def table(results: Sequence[dict[str, object]], rounds: int) -> str:
    lines = [f"{f'seconds to a new map, {rounds} rounds':34}{'median':>8}{'max':>8}{'goal':>6}{'':7}no task begun for"]
    for each in results:
        met = "met" if each["met"] else "MISSED"
        lines.append(f"{each['fault']:34}{each['median']:>8}{each['max']:>8}{GOAL:>6g} {met:>7}{each['pause']:>17}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
