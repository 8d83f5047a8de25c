"""A program that reports as many masters would: ``python -m support.masters URL COUNT``.

All begin at once and report as fast as one process can, in turn; each serves what its row of the map says, idle. A line
a round: how many have a row, how many slots these have, and the longest that one report took (s).
"""

import sys
import time

from qslots.control import Control
from qslots.queueserver import QueueServer
from qslots.reports import Declared, HandlerDeclared, MapRow, QueueDeclared, Report, SlotReport

SLOTS = 4
QUEUES = [("urgent", 90, 400), ("usual", 50, 1000), ("rest", 10, 0)]  # name, priority, min_slots
DECLARED = Declared(
    tuple(QueueDeclared(name, priority, least, handlers=(HandlerDeclared("do"),)) for name, priority, least in QUEUES)
)


def report(name: str, row: MapRow | None) -> Report:
    served = row.slots if row else ()
    slots = tuple(SlotReport(index, 1, 1, "idle", queues) for index, queues in enumerate(served) if queues)
    return Report(
        server=name, incarnation="i", host="h", pid=1, generation=1, declared=DECLARED.digest(), budget=SLOTS * 100,
        max_slots=SLOTS, pss=1, free_memory=1, slot_size=100, slot_sizes={}, epoch=row.epoch if row else 0,
        seq=row.seq if row else 0, slots=slots,
    )  # fmt: skip


def main(url: str, count: int) -> None:
    control = Control(QueueServer(url, name="masters"))
    rows: dict[str, MapRow | None] = {f"m{number:04}": None for number in range(count)}
    wanted = dict.fromkeys(rows, False)
    for name in rows:
        control.take_over(name, "", "i", gone_after=10)
    while True:
        longest = 0.0
        for name, row in rows.items():
            began = time.monotonic()
            found, wanted[name], _ = control.report(report(name, row), DECLARED if wanted[name] else None)[:3]
            longest = max(longest, time.monotonic() - began)
            rows[name] = found or row
        have = [row for row in rows.values() if row is not None]
        print(len(have), sum(len(row.slots) for row in have), f"{longest:.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
