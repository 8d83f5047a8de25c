"""Runs this Python as another user, where it lies in a folder that only root may enter: in a mount namespace of its
own, in which that folder is replaced by an empty one with just this Python in it. Nothing changes outside.
"""

import pathlib
import subprocess
import sys

_SCRIPT = """\
mount --bind "$1" "$2" && mount -t tmpfs -o mode=755 none "$3" && mkdir -p "$1" && mount --bind "$2" "$1" || exit 1
cd "$4"; shift 4; exec "$@"
"""


def prefix(room: pathlib.Path, cwd: pathlib.Path) -> list[str]:
    """What to put before a command so that any user may run this Python; ``room``: an empty folder."""
    python = pathlib.Path(sys.base_prefix).resolve()
    closed = [step for step in reversed(python.parents) if not step.stat().st_mode & 0o001]
    if not closed:
        return []
    return ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", str(python), str(room), str(closed[0]), str(cwd)]


def as_user(uid: int) -> list[str]:
    """What to put before a command so that it runs as this user, without groups."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def why_not(uid: int, room: pathlib.Path) -> str:
    """Why this user cannot run our programs, "" if it can."""
    words = [*prefix(room, pathlib.Path("/")), *as_user(uid), sys.executable, "-c", "import qmaster, qslots"]
    try:
        tried = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"exit code {tried.returncode}"
