"""The application as qslots serves it."""

import application

import qslots


@qslots.task(queue="work")
def work(n: int) -> None:
    """One task."""
    application.work(n)
