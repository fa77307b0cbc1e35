"""Whether an email is held up by what is closed, without a database: who counts as its recipient."""

from dataclasses import replace

import pytest
from core.test_retry import EMAIL, NOW
from factories import HOME

from outboxd.core.batch import Batch, Parcel
from outboxd.core.email import Claimed
from outboxd.core.outcome import Parked
from outboxd.delivery.gates import judge

CC = "cc@shut.example"
SHUT = frozenset({("provider", "shut.example")})
NO = ((CC, "unsubscribe", "all"),)
PAYLOAD = '{"to": "ada@open.example", "cc": "cc@shut.example"}'


def email(*, removed: bool = False, suppressed: bool = False, asked: bool = False) -> Claimed:
    return replace(
        EMAIL,
        payload=PAYLOAD,
        recipients=("ada@open.example", CC),
        frozen=replace(HOME, removed=(CC,) if removed else ()),
        suppressed=NO if suppressed else (),
        first_asked_at=NOW if asked else None,
    )


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (True, {}),
        (False, {"suppressed": True}),
        (False, {"removed": True, "suppressed": True}),
        (True, {"removed": True}),  # wanted again, before anybody was asked
        (False, {"removed": True, "asked": True}),
        (True, {"asked": True}),
    ],
    ids=["wanted", "said no", "taken out", "taken out and back", "taken out of the bytes", "asked with it"],
)
def test_who_is_taken_out_holds_up_nothing_at_a_closed_provider(held, said):
    stopped = judge(Parcel((email(**said),)), HOME, SHUT, now=NOW)
    assert (stopped and stopped.outcome) == (Parked("provider", "shut.example") if held else None)


def test_a_batch_with_an_open_answer_goes_to_all_that_its_bytes_name():
    open_ = Batch(EMAIL.uid, b"", HOME, first_asked_at=NOW, ambiguous=True)
    stopped = judge(Parcel((email(suppressed=True), EMAIL), open_), HOME, SHUT, now=NOW)
    assert stopped is not None
    assert stopped.outcome == Parked("provider", "shut.example")
