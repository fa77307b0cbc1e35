"""The short way through the validation takes most emails, and nothing that the long way refuses."""

import json
from itertools import product

import pytest
from factories import payload
from hostile import HOSTILE, LEGAL

PLACES = {
    "from": ["{c}", "{c}hi@shop.example", "hi{c}@shop.example", "hi@shop{c}.example", "hi@shop.example{c}",
             "{c}Shop <hi@shop.example>", "Sh{c}op <hi@shop.example>", "Shop{c}<hi@shop.example>",
             "Shop <hi@sh{c}op.example>", "Shop <hi@shop.example>{c}"],
    "to": ["{c}", "{c}Ada@Example.org", "a{c}a@example.org", "a@example{c}.org", "a@ex.o{c}rg", "a@example.org{c}"],
    "subject": ["{c}", "{c}x", "a{c}b", "x{c}"],
}  # fmt: skip


def test_the_plain_shape_goes_the_short_way(conn):
    bodies = [
        payload(),
        payload(text="Hi"),
        payload(html=None, text="Hi"),
        payload(to="Ada.Lovelace+7@Mail.Example.org"),
        payload(subject="Votre commande nº 7 — merci ✓"),
        payload(**{"from": "no-reply@shop.example"}),
    ]
    for body in bodies:
        found = conn.execute("select outboxd.check_plain(%s)", (json.dumps(body),)).fetchone()[0]
        assert found == [body["to"].lower()]


def test_no_hostile_payload_goes_the_short_way(conn):
    taken = [
        name
        for name, text, *_ in HOSTILE
        if conn.execute("select outboxd.check_plain(%s)", (text,)).fetchone() != (None,)
    ]
    assert taken == []


def test_both_ways_find_the_same_recipients(conn):
    for name, text, *_ in LEGAL:
        short, long = conn.execute(
            "select outboxd.check_plain(%(text)s::jsonb), outboxd.check_payload(%(text)s::jsonb)",
            {"text": text},
        ).fetchone()
        assert short in (None, long), name


@pytest.mark.parametrize("field", PLACES)
def test_no_character_in_any_place_goes_only_the_short_way(conn, field):
    """check_payload raises for what it refuses, and so would this statement."""
    differ, taken = conn.execute(
        """
        select count(*) filter (where outboxd.check_payload(body) <> short), count(*)
        from generate_series(1, 12400) as point
        cross join unnest(%(places)s::text[]) as place
        cross join lateral (
          select jsonb_set(%(body)s::jsonb, array[%(field)s], to_jsonb(replace(place, '{c}', chr(point))))) as _ (body)
        cross join lateral (select outboxd.check_plain(body)) as __ (short)
        where short is not null
        """,
        {"places": PLACES[field], "body": json.dumps(payload()), "field": field},
    ).fetchone()
    assert differ == 0
    assert taken > 50


def test_no_length_goes_only_the_short_way(conn):
    places = ["{x}@example.org", "a@{x}.org", "a@example.{x}", "a@{dots}org"]
    for place, length in product(places, (62, 63, 64, 65, 254, 255, 998, 999)):
        to = place.format(x="x" * length, dots="x." * (length // 2))
        statement = "select outboxd.check_payload(%(body)s) = short from outboxd.check_plain(%(body)s) as short where short is not null"
        found = conn.execute(statement, {"body": json.dumps(payload(to=to))}).fetchone()
        assert found in (None, (True,)), (place, length)
