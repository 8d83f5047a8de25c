"""Runs packs for a slot, each in the way that its handler asks for. It takes none, and settles none as a whole."""

from collections import defaultdict

from .eventloop import EventLoop
from .handlers import Handler
from .limits import ALARM
from .misfits import MisfitRow
from .queueserver import Pack
from .running import RUNNING
from .scoreboard import Field, Record
from .work import MayGoOn, PackRun, Report, Witness, unwitnessed
from .work_async import run_async
from .work_each import run_each
from .work_together import run_together


class Worker:
    """What runs the packs of one slot."""

    def __init__(self, record: Record, report: Report, may_go_on: MayGoOn, witness: Witness = unwitnessed) -> None:
        self._record = record
        self._report = report
        self._may_go_on = may_go_on
        self._witness = witness
        self._loop: EventLoop | None = None
        self._misfits: defaultdict[str, MisfitRow] = defaultdict(MisfitRow)  # of each handler
        self._ended: defaultdict[str, int] = defaultdict(int)  # tasks of each handler so far
        self.why_park = ""  # why the handler of the last pack is to be parked: too many in a row did not fit

    def run(self, handler: Handler, pack: Pack, url: str = "") -> tuple[int, bool]:
        """Runs a pack from the server at ``url``; returns how many tasks began, and whether all are marked (else the
        rest must go back).
        """
        misfits = self._misfits[handler.name]
        run = PackRun(handler, pack, self._record, self._report, self._may_go_on, self._witness, misfits=misfits)
        run.url = url
        self._record.words[Field.ENDED] = self._ended[handler.name]
        RUNNING.work = run
        if handler.arguments.takes_pack:
            began = run_together(run, self._the_loop)
        elif handler.is_async:
            began = run_async(run, self._the_loop())
        else:
            began = run_each(run)
        RUNNING.begin(None)
        RUNNING.work = None
        ALARM.calm()
        self._record.end()
        misfits.pack_over(began)
        self._ended[handler.name] += began
        self.why_park = misfits.reason() if misfits.is_too_long else ""
        return began, began == len(pack.ids)

    def _the_loop(self) -> EventLoop:
        if self._loop is None:
            self._loop = EventLoop()
        return self._loop

    def cancel(self) -> None:
        """Ends what waits in the event loop; may be called while it runs."""
        if self._loop is not None:
            self._loop.cancel()

    def close(self) -> None:
        """No more packs come."""
        if self._loop is not None:
            self._loop.close()
