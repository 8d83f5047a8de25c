"""The application that all systems of ``make bench-memory`` serve unchanged: libraries, a model, many small objects.

It must know nothing of who runs it, and must not warm itself up for anybody: what a library imports or compiles at its
first use costs each worker what it costs in real life. ``MEMORY_BENCH`` is the folder where the work is counted.

Whoever looks at an object writes to its page (the count of references): that copies the page whoever forked, and no
supervisor can help it. So it is said how many of the objects all tasks together look at, spread evenly over the heap.
There are two kinds of work, which differ in one step (``MEMORY_BENCH_WORK``): ``small`` reads the lines of an order
into objects, of which the collector hears; ``light`` takes the same bytes as bytes, and allocates far less.
"""

import json
import os
import time
import zlib

import django
import numpy as np
import pandas as pd
from django.conf import settings
from django.template import Context, Template
from sklearn.linear_model import LinearRegression

OBJECTS = int(os.environ.get("MEMORY_BENCH_OBJECTS", "200000"))
TOUCHED = int(os.environ.get("MEMORY_BENCH_TOUCHED", "200"))  # of the objects, by all tasks together
AT_ONCE = 25  # of those, by each task
ROWS = 500
WAIT = 0.05  # seconds that a task waits, as for a database: so all workers are needed to do the work in time
WORK = os.environ.get("MEMORY_BENCH_WORK", "small")
LINES = 1500  # of the order that each task gets

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    USE_TZ=True,
)
django.setup()

PRODUCTS = [{"id": n, "name": f"product {n}", "price": n % 997 / 7, "tags": ["new", n]} for n in range(OBJECTS)]
SALES = pd.DataFrame({"shop": np.arange(ROWS * 100) % 40, "sum": np.arange(ROWS * 100) % 911 / 3.0})
MODEL = LinearRegression().fit(np.arange(300.0).reshape(100, 3), np.arange(100.0))
ORDER = json.dumps([{"product": n, "options": {"colour": n % 7}, "notes": ["-" * 50]} for n in range(LINES)]).encode()
PAGE = Template("{% for each in products %}{{ each.name }}: {{ each.price|floatformat:2 }}\n{% endfor %}")


def work(n: int) -> None:
    """One task: looks at some objects, computes with each library, takes in an order, waits."""
    compute(n)
    time.sleep(WAIT)
    _count()


def compute(n: int) -> int:
    """What a task does but for waiting."""
    chosen = [PRODUCTS[(n * AT_ONCE + step) % TOUCHED * (OBJECTS // TOUCHED)] for step in range(AT_ONCE)]
    start = n * 131 % (ROWS * 99)
    sums = SALES.iloc[start : start + ROWS].groupby("shop")["sum"].sum()
    guessed = MODEL.predict(np.array([[each["price"], each["id"], n] for each in chosen]))
    page = PAGE.render(Context({"products": chosen}))
    order = len(json.loads(ORDER)) if WORK == "small" else zlib.crc32(ORDER)
    text = json.dumps({"page": page, "sums": sums.tolist(), "guessed": guessed.tolist(), "order": order})
    return len(text)


def _count() -> None:
    """One byte a task in a file of this process: so each system is counted in the same way, from outside."""
    path = f"{os.environ['MEMORY_BENCH']}/{os.getpid()}"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, b".")
    os.close(file)
