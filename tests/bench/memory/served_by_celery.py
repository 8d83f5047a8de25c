"""The application as Celery serves it, with the settings that Celery has by itself."""

import os

import application
from celery import Celery

app = Celery("bench", broker=os.environ["MEMORY_BENCH_BROKER"])


@app.task(name="work")
def work(n: int) -> None:
    """One task."""
    application.work(n)
