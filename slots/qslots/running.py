"""The task that runs here, and the ids of what it enqueues.

They are derived from its own id, so that a second run of the same task puts the same tasks again and doubles none.
"""

import hashlib


class Running:
    """The task that this slot runs; a slot has one thread. None while no handler runs."""

    parent: str | None = None
    enqueued = 0

    def begin(self, task_id: str | None) -> None:
        """A task begins, or with None the last one is over."""
        self.parent = task_id
        self.enqueued = 0

    def child_ids(self, parent: str, contents: list[bytes]) -> list[str]:
        """Ids that a second run of the same task makes again, so that it does not double what it enqueues.

        The content counts too: a run that goes another way than the one before it must not lose its own children to
        those that still wait from then.
        """
        first = self.enqueued + 1
        self.enqueued += len(contents)
        return [_child_id(parent, n, content) for n, content in enumerate(contents, first)]


RUNNING = Running()


def _child_id(parent: str, n: int, content: bytes) -> str:
    """As long as a generated id, and sorting beside its parent's."""
    digest = hashlib.blake2b(f"{parent}/{n}/".encode() + content, digest_size=12).hexdigest()
    return parent[:13] + digest[:10] if len(parent) == 23 else digest[:23]
