"""`enqueue` in the caller's own transaction, through each driver."""

from datetime import datetime

import psycopg
import pytest
import sqlalchemy
from factories import payload
from opentelemetry import context, propagate
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

from outboxd import Attachment, Email, enqueue, enqueue_many

EMAIL = Email(from_="Shop <hi@shop.example>", to="Zoë <zoe@example.org>", subject="¡Hola!", html="<p>Hi</p>")


def emails(database) -> int:
    with psycopg.connect(database) as conn:
        return conn.execute("select count(*) from outboxd.email").fetchone()[0]


@pytest.fixture
def engine(database):
    made = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database))
    yield made
    made.dispose()


def through_psycopg(database, _engine):
    return psycopg.connect(database, row_factory=dict_row)


def through_connection(_database, engine):
    return engine.connect()


def through_session(_database, engine):
    return Session(engine)


@pytest.mark.parametrize("way", [through_psycopg, through_connection, through_session])
def test_an_email_lives_and_dies_with_the_callers_transaction(database, engine, way):
    with way(database, engine) as conn:
        enqueue(conn, EMAIL, type="welcome")
        conn.rollback()
        assert emails(database) == 0
        made = enqueue(conn, EMAIL, type="welcome", dedupe_key="k")
        again = enqueue(conn, EMAIL, type="welcome", dedupe_key="k")
        conn.commit()
    assert emails(database) == 1
    assert (again.id, again.uid, made.duplicate, again.duplicate) == (made.id, made.uid, False, True)


def test_a_psycopg_cursor_will_do(database):
    with psycopg.connect(database) as conn, conn.cursor() as cursor:
        enqueue(cursor, payload(), type="welcome")
    assert emails(database) == 1


def test_many_return_their_ids_in_order(database):
    with psycopg.connect(database) as conn:
        items = [{"type": "welcome", "email": EMAIL, "dedupe_key": key} for key in ("b", "a", "b")]
        first, second, third = enqueue_many(conn, items)
    assert first == third != second
    assert emails(database) == 2


def test_one_of_many_may_be_a_mapping(conn):
    enqueue_many(conn, [{"type": "welcome", "email": payload(subject="Mapped")}])
    assert conn.execute("select payload ->> 'subject' from outboxd.email").fetchall() == [("Mapped",)]


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def _traced():
    """The caller is in a span."""
    token = context.attach(propagate.extract({"traceparent": TRACEPARENT}))
    yield
    context.detach(token)


def traces(conn) -> list:
    return [row[0] for row in conn.execute("select trace from outboxd.email order by id").fetchall()]


@pytest.mark.usefixtures("_traced")
def test_an_email_carries_the_callers_trace(conn):
    enqueue(conn, EMAIL, type="welcome")
    assert traces(conn) == [{"traceparent": TRACEPARENT}]


@pytest.mark.usefixtures("_traced")
def test_each_of_many_carries_the_callers_trace_but_for_those_with_their_own(conn):
    own = {"traceparent": TRACEPARENT.replace("b7ad", "c8be")}
    given = [{}, {"trace": None}, {"trace": own}]
    enqueue_many(conn, [{"type": "welcome", "email": EMAIL, **item} for item in given])
    assert traces(conn) == [{"traceparent": TRACEPARENT}, {"traceparent": TRACEPARENT}, own]


def test_without_a_span_many_carry_no_trace(conn):
    enqueue_many(conn, [{"type": "welcome", "email": EMAIL}])
    assert traces(conn) == [None]


def test_an_attachment_is_stored_as_base64(conn):
    enqueue(
        conn,
        Email(from_="a@b.co", to="c@d.co", subject="x", text="y", attachments=[Attachment("a.txt", b"hi")]),
        type="x",
    )
    stored = conn.execute("select payload -> 'attachments' from outboxd.email").fetchone()[0]
    assert stored == [{"filename": "a.txt", "content": "aGk="}]


def test_the_databases_refusal_reaches_the_caller_with_the_field(conn):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="to"):
        enqueue(conn, payload(to="nonsense"), type="welcome")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda conn: enqueue(conn, payload(subject="a\x00b"), type="x"), r"payload\.subject"),
        (lambda conn: enqueue(conn, payload(to=["a@b.co", "\ud800"]), type="x"), r"payload\.to\[1\]"),
        (lambda conn: enqueue(conn, payload(x=float("nan")), type="x"), "payload"),
        (lambda conn: enqueue(conn, EMAIL, type="x", scheduled_at=datetime(2030, 1, 1)), "scheduled_at"),  # noqa: DTZ001 - the fault
        (lambda conn: enqueue(conn, Email(to="a@b.co", subject="x", text="y"), type="x"), "from_"),
    ],
)
def test_what_cannot_be_stored_is_refused_early_by_name(conn, call, words):
    with pytest.raises(ValueError, match=words):
        call(conn)


def test_an_asynchronous_connection_is_told_what_to_do_instead():
    class AsyncSession:
        pass

    with pytest.raises(TypeError, match=r"AsyncSession is asynchronous; call enqueue in its run_sync"):
        enqueue(AsyncSession(), EMAIL, type="x")


def test_a_stranger_is_no_connection():
    with pytest.raises(TypeError, match="not a psycopg connection"):
        enqueue(object(), EMAIL, type="x")
