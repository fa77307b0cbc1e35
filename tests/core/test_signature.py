"""Equal errors have one signature, whatever differs from email to email."""

from dataclasses import replace

from outboxd.core.outcome import Failure
from outboxd.core.signature import signature

REFUSED = Failure("transient", "ConnectError: [Errno 111] Connection refused")


def test_what_differs_from_email_to_email_is_left_out():
    messages = ["`to[3]`: ada@example.org is 77 too long", "`cc`: bob@example.net is 9 too long"]
    assert {signature(Failure("message", message, "validation_error", 422)) for message in messages} == {
        "message validation_error 422 …: … is … too long"
    }


def test_a_code_leaves_the_signature_as_it_is():
    assert signature(replace(REFUSED, code="ECONNREFUSED")) == signature(REFUSED)
    assert signature(REFUSED) == "transient ConnectError: [Errno …] Connection refused"
