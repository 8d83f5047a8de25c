"""What the manager tells people that they have overlooked."""

from qmanager.loop import undeclared


def test_settings_of_a_queue_that_nobody_declares_are_told_with_the_nearest_name() -> None:
    assert undeclared(["mail"], ["mail", "index"]) == []
    assert undeclared(["mial", "mail", "x"], ["mail", "index"]) == [
        "the settings name queue mial, which no application that is loaded declares: did you mean mail?",
        "the settings name queue x, which no application that is loaded declares: `qslots queues` lists all",
    ]
