"""Who answers what people and scripts ask of the master: by request, now or when what was asked for is done.

It acts only through the master's own parts and never waits: an answer that must wait is looked at once a turn.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qslots.daemon.controlsocket import Reply
from qslots.daemon.requests import Status
from qslots.reports import Orders
from qslots.units import counted

from . import requests
from .byhand import ByHand
from .nursery import Nursery

log = logging.getLogger("qmaster")
Document = dict[str, Any]
STILL_DRAINED = "the cluster's order stands: `qslots server undrain NAME` takes it back"


@dataclass(slots=True)
class Desk:
    """Answers requests. ``stop``: fast or not; ``reload``: with new settings or not, answered by itself."""

    status: Callable[[], Document]
    stop: Callable[[bool], None]
    reload: Callable[[requests.Reload | requests.Refork, Reply], None]
    hand: ByHand
    nursery: Nursery
    _until_drained: list[Reply] = field(default_factory=list)
    _until_ended: list[Reply] = field(default_factory=list)

    def answer(self, request: requests.Request, reply: Reply) -> None:
        """Does what is asked; ``reply`` is called now or in a later turn."""
        match request:
            case Status():
                reply(self.status())
            case requests.Reload() | requests.Refork():
                self.reload(request, reply)
            case requests.Drain():
                self.drain("asked by its control socket")
                if request.wait:
                    self._until_drained.append(reply)
                else:
                    reply({"ok": True, "why": "", "slots": self._here()})
            case requests.Undrain():
                self._undrain(reply)
            case requests.Recycle():
                self._recycle(request, reply)
            case requests.Stop():
                self._until_ended.append(reply)
                self.stop(request.fast)

    def drain(self, why: str) -> None:
        """No more slots; those that live leave after their task."""
        if self.hand.draining:
            log.info("draining (%s): it was drained already; `qmaster undrain` brings the slots back", why)
            return
        self.hand.draining = True
        log.info("draining (%s): %s to leave; `qmaster undrain` brings them back", why, counted(self._here(), "slot"))

    def _undrain(self, reply: Reply) -> None:
        was = self.hand.draining
        if was:
            log.info("no longer drained (asked by its control socket): slots come back")
        self.hand.draining = False
        for waits in self._until_drained:
            waits({"ok": False, "why": "it was undrained meanwhile", "slots": self._here()})
        self._until_drained.clear()
        far = self.hand.drained_from_afar
        reply({"ok": not far, "why": STILL_DRAINED if far else "" if was else "it was not drained"})

    def _recycle(self, request: requests.Recycle, reply: Reply) -> None:
        children = self.nursery.children
        if request.all == bool(request.slots):
            reply({"error": "recycle: name slots, or all of them with all: true"})
            return
        if request.all:
            going = self.hand.recycle_all(children)
        else:
            going, none = self.hand.recycle(children, request.slots)
            if none:
                there = ", ".join(str(child.index) for child in self.nursery.living()) or "none"
                named = ", ".join(map(str, none))
                why = f"no slot {named} that could be recycled now; there are: {there}"
                reply({"ok": False, "why": why, "slots": going})
                return
        log.info("recycling by hand: %s", ", ".join(map(str, going)) or "no slot lives")
        reply({"ok": True, "why": "", "slots": going})

    def _here(self) -> int:
        return len(self.nursery.children.tenants)

    def follow(self, orders: Orders) -> None:
        """What people have said from afar."""
        if self.hand.follow(orders, self.nursery.children):
            log.info("drained from afar: slots leave" if orders.draining else "no longer drained from afar")

    def check(self) -> None:
        """Once a turn: answers whose time has come."""
        if self._until_drained and not self._here():
            for reply in self._until_drained:
                reply({"ok": True, "why": "", "slots": 0})
            self._until_drained.clear()

    def ended(self, fault: str) -> None:
        """The master ends now: who waits for it hears so."""
        for reply in self._until_ended + self._until_drained:
            reply({"ok": not fault, "why": fault})
