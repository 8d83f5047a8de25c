"""Ten thousand kills: every task runs, none that had finished runs again, no innocent one is charged.

    python tests/chaos/kills.py [--kills 10000] [--slots 4] [--seed N]

It prints what it has seen, and ends with 1 if a promise was broken; the folder of the run is kept then.
"""

import argparse
import pathlib
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from process.fleet import Fleet
from process.kills import Seen, kill_slots
from rich.progress import Progress


def main() -> int:
    """Runs the loop in a private folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qk-", dir="/tmp"))
    fleet = Fleet(folder)
    began = time.monotonic()
    try:
        fleet.start_redis()
        with Progress(transient=True) as progress:
            bar = progress.add_task("kills", total=args.kills)
            seen = kill_slots(
                fleet, args.slots, args.kills, seed=args.seed, say=lambda done: progress.update(bar, completed=done)
            )
        fleet.stop_all()
    finally:
        fleet.kill_all()
    print(told(seen, args.seed, time.monotonic() - began))
    if seen.faults:
        print("\n".join(seen.faults[:20]), f"\nkept: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


def told(seen: Seen, seed: int, seconds: float) -> str:
    """The figures, one a line."""
    figures = {
        "kills": seen.kills,
        "of slots with a pack": seen.with_pack,
        "in the middle of a task": seen.running.total(),
        "finished tasks in those packs": seen.marked,
        "tasks in them not begun": seen.untouched,
        "tasks, all run": seen.tasks,
        "promises broken": len(seen.faults),
        "seed": seed,
        "seconds": round(seconds),
    }
    return "\n".join(f"{name:32}{figure:>12,}" for name, figure in figures.items())


if __name__ == "__main__":
    sys.exit(main())
