"""After how long a task that runs is worth an alert. Pure; times in seconds."""

TIMES = 10  # so many times as long as usual
LEAST = 10.0  # and at least so long: nobody wants to hear of a task of 1 ms that took 20


def alert_after(said: float | None, usual: float | None) -> float | None:
    """What the handler's declaration says, else what its tasks usually take says; None while neither is known."""
    if said is not None:
        return said
    return None if usual is None else max(LEAST, TIMES * usual)
