"""Whose request an entry of the ledger is, by what the daemons' proxies passed."""

import pytest

from .evidence import _who_asked


@pytest.mark.parametrize(
    ("passed", "who"),
    [
        ([(99.99, "1"), (90.0, "2")], {"1"}),
        ([(97.0, "1"), (100.1, "2")], {"1"}),
        ([(97.0, "1"), (96.0, "2")], {"1", "2"}),
        ([(80.0, "1")], set()),
    ],
    ids=["who just asked", "who asked slowly, not who asks later", "either of two", "nobody who is known"],
)
def test_a_request_is_of_who_sent_its_key_just_before_else_of_whom_the_network_delayed(passed, who):
    assert _who_asked(passed, 100.0) == who
