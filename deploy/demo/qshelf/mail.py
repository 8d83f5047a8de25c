"""The notification of a finished directory: its text, its Message-ID, its way out, and reading the maildir again.

At least once: a task that is run again sends again. The Message-ID follows from the directory, so a repeat is known
as one, here and by any mail program.
"""

import email.message
import email.parser
import hashlib
import os
import pathlib
import smtplib
from collections.abc import Sequence

TIMEOUT = 20.0  # seconds for each step of the talk


def message_id(directory: str) -> str:
    """The one Message-ID of a directory's notification."""
    return f"<{hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]}@qshelf.invalid>"


def compose(directory: str, files: Sequence[tuple[str, int, int]]) -> email.message.EmailMessage:
    """The mail that says that ``files`` (path, lines, sections) of ``directory`` are in the index."""
    mail = email.message.EmailMessage()
    mail["From"] = "qshelf <shelf@qshelf.invalid>"
    mail["To"] = "reader@qshelf.invalid"
    mail["Subject"] = f"{len(files)} files indexed: {directory}".encode("ascii", "replace").decode()
    mail["Message-ID"] = message_id(directory)
    rows = [f"{lines:7,} lines {sections:5,} sections  {pathlib.Path(path).name}" for path, lines, sections in files]
    mail.set_content("\n".join([directory, "", *rows, ""]).encode("utf-8", "replace").decode())
    return mail


def send(mail: email.message.EmailMessage, address: str) -> None:
    """Hand the mail to the server at host:port; smtplib's errors and OSError where that fails."""
    host, _, port = address.rpartition(":")
    with smtplib.SMTP(host, int(port), local_hostname="localhost", timeout=TIMEOUT) as server:
        server.send_message(mail)


def count_mails(maildir: pathlib.Path) -> int:
    """How many mails lie in the maildir, repeats included."""
    try:
        return sum(1 for _ in (maildir / "new").iterdir())
    except FileNotFoundError:
        return 0


def message_ids(maildir: pathlib.Path) -> list[str]:
    """The Message-ID of every mail in the maildir, repeats included."""
    parser = email.parser.BytesHeaderParser()
    found = []
    for path in sorted((maildir / "new").glob("*")):
        with path.open("rb") as file:
            found.append(str(parser.parse(file)["Message-ID"]))
    return found
