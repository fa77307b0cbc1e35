"""What a stranger's text and headers become."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.resend.answer import asked_delay, excerpt, one_line, retry_after, storable

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1000000000"}, 900),
        ({"retry-after": "1e9"}, 900),
        ({"retry-after": "inf"}, 900),
        ({"retry-after": "Tue, 24 Nov 2026 09:15:30 GMT"}, 30),
        ({"retry-after": "Tue, 24 Nov 2026 10:15:30 +0100"}, 930 - 900),
        ({"retry-after": "Tuesday, 24-Nov-26 09:15:30 GMT"}, 30),
        ({"retry-after": "Tue, 24 Nov 2026 09:14:30 GMT"}, 0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 900),
        ({"retry-after": "Tue, 24 Nov 2026 09:15:30"}, 30),
        ({"retry-after": "NaN", "ratelimit-reset": "4"}, 4),
        ({"retry-after": "soon", "ratelimit-reset": "4"}, 4),
        ({"retry-after": "", "ratelimit-reset": "4"}, 4),
        ({"ratelimit-reset": "4"}, 4),
        ({"ratelimit-reset": "1e12"}, 900),
        ({"retry-after": "9", "ratelimit-reset": "4"}, 9),
        ({"retry-after": "Tue, 99 Nov 2026 09:15:30 GMT"}, 1),
        ({"retry-after": "soon", "ratelimit-reset": "later"}, 1),
        ({"retry-after": "nan", "ratelimit-reset": "nan"}, 1),
        ({}, 1),
    ],
)
def test_a_throttle_lasts_as_long_as_its_headers_say(headers, seconds):
    assert retry_after(headers, now=NOW) == timedelta(seconds=seconds)


def test_a_delay_that_nobody_asked_for_is_none():
    assert asked_delay({"ratelimit-reset": "4"}, now=NOW) is None


@given(st.dictionaries(st.sampled_from(["retry-after", "ratelimit-reset"]), st.text(max_size=40)))
def test_any_headers_give_a_delay_within_bounds(headers):
    assert timedelta(0) <= retry_after(headers, now=NOW) <= timedelta(seconds=900)


@given(st.text(alphabet=st.characters(codec=None), max_size=300).map(lambda text: text * 9))
def test_any_text_becomes_storable(text):
    for kept in (storable(text), one_line(text)):
        assert len(kept) <= 2_000
        assert "\x00" not in kept
        assert kept.encode() is not None
    assert len(one_line(text).splitlines()) <= 1


@given(st.binary(max_size=10_000))
def test_any_body_has_a_storable_excerpt(body):
    assert len(excerpt(body)) <= 2_000
    assert "\x00" not in excerpt(body)


def test_an_excerpt_keeps_what_is_storable():
    assert excerpt("é\x00\n😀".encode() + b"\xff") == "é\ufffd\n😀\ufffd"


def test_one_line_keeps_words_apart():
    assert one_line(" No\r\n\tsuch \x1b[1m domain\u2028! ") == "No such [1m domain !"
