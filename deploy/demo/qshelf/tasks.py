"""The application: three queues. This is all that qslots asks for; the rest of the folder is the work itself.

Every handler may be run twice for the same task (its slot may die after the work and before the word of it), so each
leaves the same result the second time. Where results go and who takes mail is told by the environment, because the
slots are forked far from whoever started the demo.
"""

import hashlib
import os
import pathlib

from qslots import Task, task

from . import mail, pictures, shelf, sources

RESULTS = "QSHELF_RESULTS"  # folder of index.db, thumbs/ and mail/
SMTP = "QSHELF_SMTP"  # host:port
QUEUES = ("index", "thumbnail", "notify")


@task(batch=100, max_failures=4, backoff="1s..10s")
def index(tasks: list[Task]) -> None:
    """Put a pack of source files into the full-text index, in one transaction."""
    pages = []
    for each in tasks:
        try:
            pages.append(sources.read_page(each.args[0]))
        except OSError as error:
            each.bury(f"cannot be read: {error}")
    with shelf.open_shelf(index_file()) as opened:
        # After the commit: a mail must not speak of files that a rollback took out again.
        for directory in shelf.put(opened, pages):
            notify.using(id=task_id(directory), on_duplicate="ignore").enqueue(directory)
            shelf.note_told(opened, directory)


@task(max_failures=4, backoff="1s..10s")
def thumbnail(photo: str, target: str, size: int = 128) -> None:
    """Make a small picture of ``photo`` at ``target``."""
    pictures.make_thumbnail(photo, target, size)


@task(max_failures=8, backoff="1s..10s")
def notify(directory: str) -> None:
    """Tell by mail that every file of ``directory`` is in the index."""
    with shelf.open_shelf(index_file()) as opened:
        files = shelf.files_in(opened, directory)
    mail.send(mail.compose(directory, files), os.environ[SMTP])


def index_file() -> pathlib.Path:
    """The index in the folder of results."""
    return pathlib.Path(os.environ[RESULTS], "index.db")


def task_id(subject: str) -> str:
    """A task id that follows from its subject, so that enqueueing again cannot double the task."""
    return hashlib.sha256(os.fsencode(subject)).hexdigest()[:24]
