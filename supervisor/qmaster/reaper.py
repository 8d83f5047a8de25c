"""Reaps the master's children: molds, couriers, slots, and strays that they have left behind. It never waits for any.

Every turn of the master looks, whether a signal was heard or not: what a storm of signals or a fault of ours has kept
from us is found a turn later.
"""

import os

from . import deaths, linux
from .books import monotonic
from .couriers import Couriers
from .molds import Molds
from .nursery import Nursery


class Reaper:
    """That of one master."""

    def __init__(self, nursery: Nursery, couriers: Couriers, molds: Molds) -> None:
        self._nursery = nursery
        self._couriers = couriers
        self._molds = molds

    def reap(self) -> None:
        """Every child that has ended."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            child = self._nursery.children.by_pid(pid)
            if child is None:  # it may have been born just now: it has said so before it died
                self._nursery.hear_the_unborn()
                child = self._nursery.children.by_pid(pid)
            if child is not None or pid in self._molds.pids:  # whatever it has left behind goes, before its pid is free
                self._kill_strays(pid)
            _, status = os.waitpid(pid, 0)
            if child is not None:
                self._nursery.buried(child, status)
            elif pid in self._couriers.pids:
                self._couriers.exited(pid, monotonic())
            elif pid in self._molds.pids:
                self._molds.gone(pid, deaths.decode(status).text, monotonic())

    def _kill_strays(self, dead: int) -> None:
        """A slot that was being born while we looked has told its pid before it left its mold's session: so after the
        look it can be heard, and is none.
        """
        strays = linux.strays(dead, *self._known())
        self._nursery.hear_the_unborn()
        linux.kill(strays - self._known()[0])

    def _known(self) -> tuple[set[int], set[int]]:
        """The pids of our own children, and of molds."""
        slots = {child.pid for child in self._nursery.living() if child.pid is not None}
        return slots | self._molds.pids | self._couriers.pids, self._molds.pids
