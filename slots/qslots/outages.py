"""Which queue servers do not answer a slot just now, and when each is to be tried again. Pure; times in seconds.

A server that refuses at once is tried again soon; one that hangs costs its time-out with every try, so the pause is
counted from that too: however many servers hang, most of a slot's time stays with those that answer.
"""

FIRST_PAUSE = 0.05  # seconds
LONGEST_PAUSE = 2.0
LONGER_THAN_THE_TRY = 4.0  # a pause lasts at least so many times what the try before it has cost


class Outages:
    """The servers that are away, by name."""

    def __init__(self) -> None:
        self._pauses: dict[str, float] = {}
        self._until: dict[str, float] = {}

    def failed(self, server: str, now: float, *, took: float, jitter: float) -> None:
        """A try has failed after so many seconds: each pause is twice the one before. ``jitter`` is a factor near 1."""
        pause = min(2 * self._pauses[server], LONGEST_PAUSE) if server in self._pauses else FIRST_PAUSE
        self._pauses[server] = pause
        self._until[server] = now + max(pause, LONGER_THAN_THE_TRY * took) * jitter

    def answered(self, server: str) -> None:
        """It is there again."""
        if self._until:
            self._pauses.pop(server, None)
            self._until.pop(server, None)

    def until(self, server: str) -> float:
        """When to try it again; 0 if it is not known to be away."""
        return self._until.get(server, 0.0)
