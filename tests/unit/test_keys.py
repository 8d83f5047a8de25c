"""Names that may stand in keys, and keys that cannot be mistaken for each other."""

import pytest

from qslots.errors import SettingsError
from qslots.keys import QueueKeys, check_name


@pytest.mark.parametrize("name", ["a", "resize", "shop.mail-2", "_x", "9", "A" * 64])
def test_name_that_may_stand_in_a_key_is_returned(name: str) -> None:
    assert check_name(name, "queue") == name


@pytest.mark.parametrize("name", ["", "a b", "a:b", "{a}", ".a", "-a", "A" * 65, "ä", "a\n", "a/b", "a*"])
def test_name_that_may_not_is_refused_with_what_it_names(name: str) -> None:
    with pytest.raises(SettingsError, match="the queue name"):
        check_name(name, "the queue name")


def test_all_keys_of_a_queue_lie_on_one_hash_slot_and_differ_from_another_queues() -> None:
    one, other = QueueKeys("a"), QueueKeys("a.b")
    keys = [*one.slots_vector[:-1], one.schedule("h"), one.producer("p"), one.parked("c"), one.result("t")]
    assert all("{a}" in key for key in keys)
    assert not {*one.vector, one.schedule("b")} & {*other.vector, other.schedule("b")}
    assert one.wake in one.vector
    assert one.handlers in one.vector
