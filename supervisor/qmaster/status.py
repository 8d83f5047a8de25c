"""What ``qmaster status`` tells: a picture of the master at this moment, as one JSON document.

Keys are documented in docs/commands.md; more may be added, none is taken away. It only reads.
"""

import os
from dataclasses import dataclass
from typing import Any

import msgspec

from qslots.settings import Settings

from .books import Books, monotonic
from .byhand import ByHand
from .children import Phase
from .couriers import Couriers
from .duties import Duties
from .generations import View
from .identity import Identity
from .molds import Molds
from .nursery import Nursery
from .recycler import Recycler


@dataclass(frozen=True, slots=True)
class Status:
    """The parts of a master that know something."""

    identity: Identity
    couriers: Couriers
    molds: Molds
    nursery: Nursery
    books: Books
    duties: Duties
    recycler: Recycler
    hand: ByHand

    def document(self, settings: Settings, view: View, stage: str) -> dict[str, Any]:
        """All of it; times in seconds, memory in bytes."""
        first = self.couriers.first
        return {
            "server": self.identity.name,
            "pid": os.getpid(),
            "stage": stage,
            "draining": self.hand.drains,
            "generation": self.molds.present,
            "generations": self.molds.status(view, self.books.pss),
            "reload": self.molds.reload_status(view),
            "app": list(settings.app),
            "queue_server": first.url,
            "queue_server_down": first.down,
            "queue_servers": self.couriers.status(),
            **self.duties.figures(),
            "max_slots_by_hand": self.hand.most,
            "deaths": dict(self.nursery.losses.counts),
            "parked": self.nursery.losses.parked(monotonic()),
            **self.recycler.status(),
            "mold": self.molds.ready.document() if self.molds.ready is not None else None,
            "log_file": settings.server.log_file,
            "slots": [msgspec.structs.asdict(slot) for slot in self.duties.slots()],
        }

    def line(self, stage: str) -> str:
        """The same in a few words, for a process title and the service manager."""
        live = self.nursery.children.count(Phase.LIVE)
        most = self.books.capacity.max_slots if self.books.capacity is not None else None
        of = "" if most is None else f" of {most}"
        drained = ", drained" if self.hand.drains else ""
        return f"{stage}{drained}, gen {self.molds.present}, {live}{of} slot{'s' * (live != 1 or bool(of))}"
