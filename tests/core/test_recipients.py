"""Recipients that are suppressed are taken out, the same way each time; an email to nobody does not go."""

import json

import pytest
from factories import payload
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.recipients import Goes, NobodyLeft, review, without

ADA, BOB, EVE = "ada@example.org", "bob@example.org", "eve@xn--bcher-kva.example"


def test_an_email_without_suppressed_recipients_goes_as_it_is():
    email = payload(to=[ADA, BOB], cc=EVE)
    assert review(email, set()) == Goes()
    assert review(email, {"somebody@else.example"}) == Goes()
    assert without(email, ()) is email


@pytest.mark.parametrize("to", [ADA, [ADA], ["Ada <Ada@Example.ORG>"], [ADA, "ADA@example.org"]])
def test_an_email_whose_every_to_is_suppressed_does_not_go(to):
    assert review(payload(to=to, cc=BOB), {ADA}) == NobodyLeft()


def test_a_suppressed_to_among_others_is_taken_out():
    email = payload(to=["Ada <ada@example.org>", "Bob <bob@example.org>"])
    assert review(email, {ADA}) == Goes((ADA,))
    assert without(email, (ADA,)) == payload(to=["Bob <bob@example.org>"])


def test_cc_and_bcc_are_taken_out_and_left_out_when_empty():
    email = payload(to=ADA, cc="Bob <bob@example.org>", bcc=["eve@Bücher.example", BOB, "x@y.co"])
    decided = review(email, {BOB, EVE})
    assert decided == Goes((BOB, EVE))
    assert without(email, decided.removed) == payload(to=ADA, bcc=["x@y.co"])


def test_what_stays_keeps_its_order_and_spelling():
    email = payload(to=["Zoë <ZOE@Example.org>", ADA, "b@y.co"], cc=[])
    left = without(email, (ADA,))
    assert list(left) == list(email)
    assert left["to"] == ["Zoë <ZOE@Example.org>", "b@y.co"]
    assert left["cc"] == []


def test_to_is_never_emptied():
    with pytest.raises(ValueError, match="nobody"):
        without(payload(to=ADA), (ADA,))


PEOPLE = st.sampled_from([ADA, BOB, "Eve <eve@bücher.example>", "X <x@y.co>", "Z@Y.CO"])


@given(
    st.lists(PEOPLE, min_size=1),
    st.lists(PEOPLE),
    st.lists(PEOPLE),
    st.sets(st.sampled_from([ADA, BOB, EVE, "x@y.co"])),
)
def test_nobody_suppressed_is_left_and_the_bytes_depend_on_the_list_alone(to, cc, bcc, suppressed):
    email = payload(to=to, cc=cc, bcc=bcc)
    decided = review(email, suppressed)
    if isinstance(decided, NobodyLeft):
        return
    left = without(email, decided.removed)
    assert review(left, suppressed) == Goes()
    assert without(left, decided.removed) == left
    assert json.dumps(left) == json.dumps(without(json.loads(json.dumps(email)), list(decided.removed)))
    kept = {field: value for field, value in email.items() if field not in ("to", "cc", "bcc")}
    assert kept.items() <= left.items()
