"""The mail server of the demo, a process of its own: takes mail on a loopback port and files it in a maildir.

    python -m show.mailserver MAILDIR

Prints its port, then serves until its standard input ends: it must never outlive whoever started it, however that
one dies.
"""

import asyncio
import pathlib
import sys

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP


async def serve(maildir: str) -> None:
    """Serve on a port that the system chose, until end of file on standard input."""
    loop = asyncio.get_running_loop()
    handler = Mailbox(pathlib.Path(maildir))
    server = await loop.create_server(lambda: SMTP(handler, hostname="localhost"), "127.0.0.1", 0)
    lifeline = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lifeline), sys.stdin)
    print(server.sockets[0].getsockname()[1], flush=True)
    await lifeline.read()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
