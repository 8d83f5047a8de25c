"""The row of the map that a master obeys: the newest that it has heard of, by (epoch, seq), also across a restart.

A row from the state file counts at once when nobody can be asked for a newer one; otherwise the queue server is asked
first. It never goes back to an older row: a queue server that has lost its data knows less than we do.
"""

import logging
import pathlib

import msgspec

from qslots.reports import MOST_SLOTS, MapRow

from .letters import Failed, Reply, SaveState
from .state import State

log = logging.getLogger("qmaster")
UNMANAGED = 60.0  # s without a new plan after which a line says so: managers publish once a second


class LastMap:
    """The row, and the file that keeps it; ``path`` None where there is no folder for it."""

    def __init__(self, path: pathlib.Path | None, server: str, row: MapRow | None) -> None:
        self._path = path
        self._server = server
        self._counts = False  # whether the queue server was asked since this master started, or could not be
        row = _fitting(row)
        self._saved = row  # what stands in the file
        self._warned = False
        self._unmanaged = False
        self.row = row

    def heard(self, row: MapRow | None, *, planned: float | None = None) -> None:
        """What the queue server has for us; ``planned``: seconds since a manager has published, None if none has."""
        self._counts = True
        self._tell_of_manager(planned)
        if row is not None and (self.row is None or (row.epoch, row.seq) > (self.row.epoch, self.row.seq)):
            self.row = _fitting(row)

    def _tell_of_manager(self, planned: float | None) -> None:
        """Once when there is none for long, and once when there is one again."""
        silent = planned is not None and planned > UNMANAGED
        if silent and not self._unmanaged:
            log.warning("no manager has published for %.0f s: slots go on with the last map", planned)
        elif self._unmanaged and not silent:
            log.info("a manager publishes again")
        self._unmanaged = silent

    def in_force(self, *, away: bool) -> MapRow | None:
        """What slots are to do now; ``away``: the queue server does not answer. What was once in force stays so."""
        self._counts = self._counts or away
        return self.row if self._counts else None

    def unsaved(self, queue_server: str) -> SaveState | None:
        """What is to be written, if the file does not have it yet."""
        if self._path is None or self.row is None or self.row == self._saved:
            return None
        return SaveState(str(self._path), State(self._server, queue_server, self.row))

    def was_saved(self, reply: Reply, *, row: MapRow) -> None:
        """Told of once if it failed; it is tried again."""
        if not isinstance(reply, Failed):
            self._saved, self._warned = row, False
        elif not self._warned and reply.code != "down":
            self._warned = True
            log.warning("%s; work goes on, but a restart without the queue server would not know the map", reply.why)


def _fitting(row: MapRow | None) -> MapRow | None:
    """Of a row with more slots than a server can have, those that it can."""
    if row is None or len(row.slots) <= MOST_SLOTS:
        return row
    log.error("the map has %d slots for this server: it can have %d, the rest is left out", len(row.slots), MOST_SLOTS)
    return msgspec.structs.replace(row, slots=row.slots[:MOST_SLOTS])
