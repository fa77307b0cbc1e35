"""Who is suppressed, for which emails, why and until when; and what an erasure leaves."""

import hashlib
import hmac
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from factories import insert, payload
from waiting import until

from outboxd.core.suppression import REASONS, Suppressed
from outboxd.db.suppression import among

ADA = "ada@example.org"
SOON = timedelta(days=7)


def suppress(conn, address=ADA, reason="hard_bounce", scope="all", **options):
    names = "".join(f", {name} => %({name})s" for name in options)
    values = {"address": address, "reason": reason, "scope": scope, **options}
    statement = f"select outboxd.suppress(%(address)s, %(reason)s, %(scope)s{names})"
    return conn.execute(statement, values).fetchone()[0]


def held(conn, columns="reason, scope"):
    return conn.execute(f"select {columns} from outboxd.suppression order by scope").fetchall()


def blocked(conn, id_, **options):
    return {found.address for found in among(conn, [id_], **options).get(id_, ())}


def now(conn):
    return conn.execute("select clock_timestamp()").fetchone()[0]


def test_the_key_is_an_hmac_under_a_secret_of_this_database(conn):
    key, inner, outer = conn.execute("select key, inner_pad, outer_pad from outboxd.secret").fetchone()
    assert inner == bytes(byte ^ 0x36 for byte in key.ljust(64, b"\0"))
    assert outer == bytes(byte ^ 0x5C for byte in key.ljust(64, b"\0"))
    hashed = conn.execute("select outboxd.address_hash('Ada@Example.ORG')").fetchone()[0]
    assert hashed == hmac.digest(key, b"ada@example.org", hashlib.sha256)[:16]
    assert hashed != hashlib.sha256(b"ada@example.org").digest()[:16]


def test_each_database_has_a_secret_of_its_own(conn, empty_database):
    from outboxd.db.migrate import migrate

    migrate(empty_database)
    with psycopg.connect(empty_database) as other:
        theirs = other.execute("select key from outboxd.secret").fetchall()
    ours = conn.execute("select key from outboxd.secret").fetchall()
    assert len(theirs) == len(ours) == 1
    assert theirs != ours
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(
            "insert into outboxd.secret (key, inner_pad, outer_pad) select key, inner_pad, outer_pad from outboxd.secret"
        )


@pytest.mark.parametrize(
    ("suppressed", "written"),
    [("ada@example.org", "Ada <ADA@Example.org>"), ("ADA@bücher.example", "ada@xn--bcher-kva.example"),
     ("ada@xn--bcher-kva.example", "ada@BÜCHER.example")],
)  # fmt: skip
def test_an_address_is_suppressed_in_every_spelling(conn, suppressed, written):
    id_ = insert(conn, body=payload(to=written))
    assert blocked(conn, id_) == set()
    assert suppress(conn, suppressed) is True
    assert len(blocked(conn, id_)) == 1


def test_to_cc_and_bcc_all_count_each_with_its_reason(conn):
    suppress(conn, "b@x.co", "spam_complaint")
    suppress(conn, "c@x.co", "unsubscribe", "welcome")
    suppress(conn, "d@x.co", "fraud", "newsletter")
    id_ = insert(conn, type="welcome", body=payload(to=["a@x.co", "b@x.co"], cc="c@x.co", bcc=["d@x.co"]))
    other = insert(conn, body=payload(to="a@x.co"))
    assert among(conn, [id_, other, 999_999]) == {
        id_: (Suppressed("b@x.co", "spam_complaint", "all"), Suppressed("c@x.co", "unsubscribe", "welcome"))
    }


@pytest.mark.parametrize(
    ("scope", "stopped"),
    [
        ("all", {"newsletter", "offer", "reset"}),
        ("marketing", {"newsletter", "offer"}),
        ("transactional", {"reset"}),
        ("newsletter", {"newsletter"}),
        ("reset", {"reset"}),
        ("system", set()),
    ],
)
def test_a_scope_is_all_or_a_queue_or_a_type(conn, scope, stopped):
    ids = {
        "newsletter": insert(conn, type="newsletter"),
        "offer": insert(conn, type="offer", queue="marketing"),
        "reset": insert(conn, type="reset"),
    }
    suppress(conn, scope=scope)
    assert {name for name, id_ in ids.items() if blocked(conn, id_)} == stopped


def test_a_suppression_ends_at_its_expiry(conn):
    id_ = insert(conn)
    until = now(conn) + SOON
    suppress(conn, expires_at=until)
    assert blocked(conn, id_) == {ADA}
    assert blocked(conn, id_, now=until - timedelta(microseconds=1)) == {ADA}
    assert blocked(conn, id_, now=until) == set()


def test_the_gravest_of_several_reasons_is_told(conn):
    suppress(conn, reason="unsubscribe", scope="marketing")
    suppress(conn, reason="spam_complaint", scope="newsletter")
    suppress(conn, reason="soft_bounce_persistent")
    id_ = insert(conn, type="newsletter")
    assert among(conn, [id_])[id_] == (Suppressed(ADA, "spam_complaint", "newsletter"),)


def test_a_graver_reason_replaces_a_lighter_and_not_the_other_way_round(conn):
    assert suppress(conn, reason="admin", source="a") is True
    assert suppress(conn, reason="spam_complaint", source="b") is True
    assert suppress(conn, reason="admin", source="c") is False
    assert suppress(conn, reason="spam_complaint", source="d") is False
    assert held(conn, "reason, source") == [("spam_complaint", "b")]


def test_an_expiry_is_only_ever_moved_later(conn):
    until = now(conn) + SOON
    suppress(conn, reason="soft_bounce_persistent", expires_at=until)
    assert suppress(conn, reason="soft_bounce_persistent", expires_at=until - timedelta(days=1)) is False
    assert suppress(conn, reason="hard_bounce", expires_at=until - timedelta(days=1)) is True
    assert held(conn, "reason, expires_at") == [("hard_bounce", until)]
    assert suppress(conn, reason="soft_bounce_persistent") is True
    assert held(conn, "reason, expires_at") == [("hard_bounce", None)]
    assert suppress(conn, reason="hard_bounce", expires_at=until) is False


def test_of_several_in_one_call_the_gravest_reason_and_the_latest_expiry_are_kept(conn):
    until = now(conn) + SOON
    conn.execute(
        "select outboxd.suppress_many(array[%(a)s, upper(%(a)s)], array['spam_complaint', 'admin'], array['all', 'all'],"
        " array['x', 'x'], array[null, null], array[%(until)s, %(until)s + interval '1 d'], array[null, null]::jsonb[])",
        {"a": ADA, "until": until},
    )
    assert held(conn, "reason, expires_at") == [("spam_complaint", until + timedelta(days=1))]


def test_what_has_expired_is_replaced_whole(conn):
    suppress(conn, reason="spam_complaint", source="old")
    conn.execute("update outboxd.suppression set expires_at = clock_timestamp() - interval '1 s'")
    until = now(conn) + SOON
    assert suppress(conn, reason="admin", source="new", expires_at=until) is True
    assert held(conn, "reason, source, expires_at") == [("admin", "new", until)]


def test_infinity_is_for_ever(conn):
    suppress(conn, expires_at="infinity")
    assert held(conn, "expires_at") == [(None,)]


def test_an_erasure_hides_the_address_in_every_scope_and_for_good(conn):
    suppress(conn, reason="unsubscribe", scope="marketing")
    assert suppress(conn, reason="gdpr") is True
    assert held(conn, "scope, reason, address") == [("all", "gdpr", None), ("marketing", "unsubscribe", None)]
    suppress(conn, reason="hard_bounce", scope="newsletter")
    suppress(conn, reason="spam_complaint", scope="all")
    assert held(conn, "scope, reason, address") == [
        ("all", "gdpr", None), ("marketing", "unsubscribe", None), ("newsletter", "hard_bounce", None)
    ]  # fmt: skip
    assert blocked(conn, insert(conn)) == {ADA}


def test_an_erasure_and_others_of_the_same_address_in_one_call_hide_it_too(conn):
    conn.execute(
        "select outboxd.suppress_many(array[%(a)s, %(a)s], array['unsubscribe', 'gdpr'], array['marketing', 'all'],"
        " array['x', 'x'], array[null, null], array[null, null]::timestamptz[], array[null, null]::jsonb[])",
        {"a": ADA},
    )
    assert held(conn, "scope, address") == [("all", None), ("marketing", None)]


def in_thread(conn, call):
    """A thread that runs it on that connection, and what it raised."""
    raised = []

    def run():
        try:
            call(conn)
        except psycopg.Error as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


def until_it_waits(look, thread, conn):
    """For a lock; what does not wait ends."""
    asked = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
    pid = (conn.info.backend_pid,)
    until(lambda: not thread.is_alive() or look.execute(asked, pid).fetchone()[0], what="a wait or an end")


@pytest.mark.parametrize("first", ["gdpr", "unsubscribe"])
def test_a_suppression_beside_an_erasure_leaves_no_readable_address_whichever_commits_first(connect, first):
    second = {"gdpr": "unsubscribe", "unsubscribe": "gdpr"}[first]
    scopes = {"gdpr": "all", "unsubscribe": "marketing"}
    ours, theirs, look = connect(), connect(), connect()
    ours.execute("begin")
    suppress(ours, reason=first, scope=scopes[first])
    thread, raised = in_thread(theirs, lambda conn: suppress(conn, reason=second, scope=scopes[second]))
    until_it_waits(look, thread, theirs)
    ours.execute("commit")
    thread.join()
    assert raised == []
    assert held(look, "scope, reason, address") == [("all", "gdpr", None), ("marketing", "unsubscribe", None)]


def test_an_erasure_and_an_import_of_the_same_scopes_in_another_order_do_not_deadlock(connect):
    holder, importer, eraser, look = (connect() for _ in range(4))
    for scope in ("all", "marketing"):
        suppress(look, reason="unsubscribe", scope=scope)
    holder.execute("begin")
    holder.execute("select from outboxd.suppression where scope = 'all' for update")
    importing, refused = in_thread(importer, lambda conn: conn.execute(
        "select outboxd.suppress_many(array[%(a)s, %(a)s], array['fraud', 'fraud'], array['all', 'marketing'],"
        " array['x', 'x'], array[null, null], array[null, null]::timestamptz[], array[null, null]::jsonb[])",
        {"a": ADA},
    ))  # fmt: skip
    until_it_waits(look, importing, importer)
    erasing, failed = in_thread(eraser, lambda conn: suppress(conn, reason="gdpr", scope="marketing"))
    until_it_waits(look, erasing, eraser)
    holder.execute("commit")
    importing.join()
    erasing.join()
    assert refused + failed == []
    assert held(look, "scope, reason, address") == [("all", "fraud", None), ("marketing", "gdpr", None)]


def test_an_open_erasure_holds_up_no_gate_and_an_open_suppression_no_other(connect):
    eraser, ours, theirs = connect(), connect(), connect()
    id_ = insert(ours)
    for conn in (ours, theirs):
        conn.execute("set lock_timeout = '1s'")
    with eraser.transaction(force_rollback=True):
        suppress(eraser, reason="gdpr")
        assert blocked(ours, id_) == set()
        assert ours.execute("select reason from outboxd.suppressed(array[%s])", (ADA,)).fetchall() == []
        with pytest.raises(psycopg.errors.LockNotAvailable):
            suppress(ours, "bob@example.org")
    with ours.transaction():
        suppress(ours)
        assert suppress(theirs, "bob@example.org") is True


def test_an_erasure_and_who_unsuppresses_the_same_scopes_do_not_deadlock(connect):
    holder, lifter, eraser, look = (connect() for _ in range(4))
    for scope in ("all", "marketing"):
        suppress(look, reason="unsubscribe", scope=scope)
    holder.execute("begin")
    holder.execute("select from outboxd.suppression where scope = 'all' for update")
    lifting, refused = in_thread(lifter, lambda conn: conn.execute("select outboxd.unsuppress(%s)", (ADA,)))
    until_it_waits(look, lifting, lifter)
    erasing, failed = in_thread(eraser, lambda conn: suppress(conn, reason="gdpr", scope="marketing"))
    until_it_waits(look, erasing, eraser)
    holder.execute("commit")
    lifting.join()
    erasing.join()
    assert refused + failed == []
    assert held(look, "scope, reason, address") == [("marketing", "gdpr", None)]


def test_an_erasure_does_not_wait_for_a_vacuum_that_does_not_yield(connect):
    vacuuming, eraser = connect(), connect()
    eraser.execute("set lock_timeout = '1s'")
    with vacuuming.transaction():
        vacuuming.execute("lock table outboxd.suppression in share update exclusive mode")  # as vacuum does
        assert suppress(eraser, reason="gdpr") is True


def test_transactions_that_suppress_and_then_erase_end_as_a_deadlock_that_one_survives(connect):
    ours, theirs, look = connect(), connect(), connect()
    for conn, address in ((ours, ADA), (theirs, "bob@example.org")):
        conn.execute("begin")
        suppress(conn, address, reason="unsubscribe", scope="marketing")
    erase = [
        in_thread(conn, lambda conn: (suppress(conn, reason="gdpr"), conn.execute("commit")))
        for conn in (ours, theirs)
    ]
    for thread, _ in erase:
        thread.join()
    (refused,) = [error for _, raised in erase for error in raised]
    assert refused.sqlstate == "40P01"
    assert ("gdpr", "all") in held(look)


def test_unsuppress_takes_away_one_scope_or_all_but_never_an_erasure_unasked(conn):
    for scope in ("all", "marketing", "newsletter"):
        suppress(conn, reason="unsubscribe", scope=scope)
    suppress(conn, reason="gdpr", scope="reset")
    call = "select outboxd.unsuppress(%s, %s, %s)"
    assert conn.execute(call, ("ADA@example.org", "marketing", False)).fetchone() == (1,)
    assert conn.execute(call, (ADA, None, False)).fetchone() == (2,)
    assert held(conn) == [("gdpr", "reset")]
    assert conn.execute(call, (ADA, None, True)).fetchone() == (1,)
    assert conn.execute("select outboxd.unsuppress('nobody@example.org')").fetchone() == (0,)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"address": "ada"}, "address"),
        ({"address": "Ada <ada@example.org>"}, "address"),
        ({"address": None}, "address"),
        ({"reason": "because"}, "reason"),
        ({"reason": None}, "reason"),
        ({"scope": ""}, "scope"),
        ({"scope": None}, "scope"),
        ({"source": ""}, "source"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
        ({"metadata": "[]"}, "metadata"),
    ],
)
def test_nonsense_is_refused_by_field_without_its_value(conn, options, field):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"^{field}: ") as refused:
        suppress(conn, **options)
    assert "ada@" not in str(refused.value)
    assert held(conn) == []


def test_a_rolled_back_suppression_never_was(connect):
    ours, theirs = connect(), connect()
    id_ = insert(ours)
    ours.execute("begin")
    suppress(ours)
    assert blocked(ours, id_) == {ADA}
    assert blocked(theirs, id_) == set()
    ours.execute("rollback")
    assert blocked(ours, id_) == set()


def test_a_suppression_stops_an_email_from_its_commit_on(connect):
    ours, theirs = connect(), connect()
    id_ = insert(ours)
    with ours.transaction():
        suppress(ours)
    assert blocked(theirs, id_) == {ADA}


def test_the_gate_takes_a_thousand_emails_and_no_more(conn):
    suppress(conn)
    conn.execute(
        "insert into outboxd.email (type, payload) select 'welcome', %s::jsonb from generate_series(1, 1000)",
        ('{"from": "a@b.co", "to": "ada@example.org", "subject": "x", "text": "y"}',),
    )
    ids = [id_ for (id_,) in conn.execute("select id from outboxd.email").fetchall()]
    assert len(among(conn, ids)) == 1000
    assert among(conn, []) == {}
    with pytest.raises(ValueError, match="1000"):
        among(conn, [*ids, 0])


def test_the_filter_tells_in_one_query_who_must_not_be_written_to(conn):
    suppress(conn, "b@x.co", "unsubscribe", "marketing")
    suppress(conn, "c@x.co", "spam_complaint")
    suppress(conn, "d@x.co", "admin", "newsletter")
    asked = ["a@x.co", "B@X.co", "c@x.co", "nonsense", "d@x.co", "B@X.co"]
    call = "select address, reason from outboxd.suppressed(%s, 'marketing', 'offer')"
    assert conn.execute(call, (asked,)).fetchall() == [
        ("B@X.co", "unsubscribe"), ("c@x.co", "spam_complaint"), ("B@X.co", "unsubscribe")
    ]  # fmt: skip
    assert conn.execute("select address from outboxd.suppressed(%s)", (asked,)).fetchall() == [("c@x.co",)]


def test_many_are_suppressed_at_once_and_what_is_no_address_is_told_by_its_place(conn):
    suppress(conn, "b@x.co", "spam_complaint")
    added, changed, refused = conn.execute(
        "select * from outboxd.suppress_many("
        " array['a@x.co', 'nonsense', 'B@x.co', 'A@X.CO', null, 'c@x.co'], array_fill('hard_bounce'::text, array[6]),"
        " array_fill('all'::text, array[6]), array_fill('test'::text, array[6]), array_fill(null::text, array[6]),"
        " array_fill(null::timestamptz, array[6]), array_fill(null::jsonb, array[6]))"
    ).fetchone()
    assert (added, changed, refused) == (2, 0, [2, 5])
    assert sorted(held(conn, "address")) == [("a@x.co",), ("b@x.co",), ("c@x.co",)]


def test_every_reason_is_known_to_sql_and_python_alike(conn):
    assert sorted(
        conn.execute(
            "select outboxd.gravity(reason) from unnest(%s::text[]) as reason", (list(REASONS),)
        ).fetchall()
    ) == [(rank,) for rank in range(1, 9)]
    for reason in REASONS:
        suppress(conn, f"{reason}@example.org", reason)
    assert len(held(conn)) == 8


def test_who_may_call_the_functions_sees_neither_the_list_nor_the_secret(connect):
    roles = {name: connect() for name in ("webhook", "app", "admin")}
    for name, theirs in roles.items():
        theirs.execute(f"set session authorization outboxd_{name}")
    asked = "select address, reason from outboxd.suppressed(array[%s, 'bob@example.org'], 'marketing')"
    assert suppress(roles["webhook"]) is True
    assert roles["app"].execute(asked, (ADA,)).fetchall() == [(ADA, "hard_bounce")]
    assert roles["admin"].execute(asked, (ADA,)).fetchall() == [(ADA, "hard_bounce")]
    assert roles["admin"].execute("select outboxd.unsuppress(%s)", (ADA,)).fetchone() == (1,)
    secrets = ("table outboxd.secret", "select outboxd.address_hash('a@b.co')")
    listed = ("table outboxd.suppression", "table outboxd.suppression_summary")
    not_theirs = {
        "webhook": (*secrets, *listed, asked, "select outboxd.unsuppress(%s)"),
        "app": (*secrets, *listed, "select outboxd.suppress(%s, 'admin')", "select outboxd.unsuppress(%s)"),
        "admin": secrets,
    }
    for name, statements in not_theirs.items():
        for hidden in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                roles[name].execute(hidden, (ADA,) if "%s" in hidden else None)


def test_the_summary_counts_by_scope_and_reason(conn):
    for number in range(3):
        suppress(conn, f"a{number}@x.co", "unsubscribe", "marketing")
    suppress(conn, "b@x.co", "gdpr")
    conn.execute("update outboxd.suppression set expires_at = clock_timestamp() where address = 'a0@x.co'")
    rows = conn.execute(
        "select scope, reason, active, expired, erased from outboxd.suppression_summary order by 1"
    )
    assert rows.fetchall() == [("all", "gdpr", 1, 0, 1), ("marketing", "unsubscribe", 2, 1, 0)]
