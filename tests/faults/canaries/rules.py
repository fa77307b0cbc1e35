"""The rules of the protocol, each taken out: an interleaving breaks the design where it is missing, and a test sees it.

A mutant is named after its rule and what is left of it. What a canary of the catalogue takes out is not here again.
"""

from .canary import Canary, Edit
from .catalogue import CANARIES, PROTOCOL, SETTLE

CLAIM = "sql/queries/lease/claim.sql"
READ = "sql/queries/lease/read.sql"
RECLAIM = "sql/queries/lease/reclaim.sql"
GRANT = "sql/functions/grant_limits.sql"
QUEUE = "sql/functions/queue_emails.sql"
NOW = "(select instant.now from instant)"
COPIES = "tests/path/test_copies.py::"

RULES = (
    Canary(
        "rule-3-not-found-at-once", "that a claim never happened is final only once its transaction has ended",
        (Edit("outboxd/db/lease.py", '        conn.execute(query("lease/reserve"), {"lease_id": lease_id, "worker": NOBODY})\n', ""),),
        test=f"{PROTOCOL}TestRule3LostAnswerOfAClaim",
    ),
    Canary(
        "rule-4-short-leases-stay", "what its lease cannot wait for goes back unasked",
        (Edit("outboxd/delivery/hand.py", "held.lease_ends - now < need", "held.lease_ends - now < need - 1e9"),),
        test="tests/path/test_late_words.py::test_rule_4_what_its_lease_cannot_wait_for_goes_back_and_counts_as_no_crash",
    ),
    Canary(
        "rule-4-a-return-burns", "what was not asked burns no attempt",
        (
            Edit(
                "outboxd/core/retry.py",
                "            return _unasked(email)\n        case Throttled",
                '            return Step("again", email.attempts + 1, email.ambiguous, email.transient)\n        case Throttled',
            ),
            Edit(SETTLE, "    and (held.asked_ago is not null or (", "    and (held.attempts > 0 or ("),
        ),
        test=f"{PROTOCOL}TestRule4LeasesThatRunShort",
    ),
    Canary(
        "rule-5-no-halves", "one outcome that cannot be stored costs its text and nothing else",
        (Edit("outboxd/delivery/settler.py", "return _settle_in_halves(settler, conn, results, error)", "raise error"),),
        test=f"{PROTOCOL}TestRule5BadTextOfAProvider",
    ),
    Canary(
        "rule-6-lease-forgets", "a reclaimed email keeps the serialiser and the settings of its lease",
        (Edit(RECLAIM, "else gone.frozen || coalesce(progress.frozen, '{}')", "else coalesce(progress.frozen, '{}')"),),
        test=f"{PROTOCOL}TestRule6WhatTheLeaseCarries",
    ),
    Canary(
        "rule-7-inner-join", "an email whose row is gone does not vanish from its claim",
        (
            Edit(READ, "left join lateral (\n  select *\n  from outboxd.email", "join lateral (\n  select *\n  from outboxd.email"),
        ),
        test=f"{PROTOCOL}TestRule7MissingPayload",
    ),
    Canary(
        "rule-8-ends-unread", "a claim refuses what has an end",
        (Edit("outboxd/delivery/gates.py", "    if email.ended:\n", "    if False:\n"),),
        test=f"{PROTOCOL}TestRule8RebuildAndClaim::test_a_claim_refuses_an_email_that_has_an_outcome",
    ),
    Canary(
        "rule-8-put-back-blindly", "what is put back is in no other table, read at once",
        (
            Edit(
                "sql/functions/rebuild_ready.sql",
                "    and not exists (select from outboxd.delivery where delivery.id = email.id)\n", "",
            ),
        ),
        test=f"{PROTOCOL}TestRule8RebuildAndClaim::test_rebuild_puts_back_only_what_is_in_no_table_of_a_state",
    ),
    Canary(
        "rule-9-control-file", "the timeline comes from the log's position",
        (
            Edit(
                "sql/queries/instance/timeline.sql", "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer",
                "select timeline_id from pg_control_checkpoint()",
            ),
        ),
        test=f"{COPIES}TestPromotion::test_rule_9_the_timeline_is_the_new_one_at_once",
    ),
    Canary(
        "rule-10-settle-frees-the-key", "settle writes no row that an application's transaction can hold",
        (
            Edit(
                SETTLE, "), forgotten as (\n",
                "), freed as (\n  update outboxd.dedupe set id = dedupe.id"
                " where dedupe.id = any (array(select held.id from held))\n), forgotten as (\n",
            ),
        ),
        test=f"{PROTOCOL}TestRule10ApplicationsHoldNothingThatTheDaemonNeeds",
    ),
    Canary(
        "rule-11-shared-row", "the insert trigger makes no row that two applications share",
        (
            Edit(
                QUEUE, "  insert into outboxd.ready (id,",
                "  insert into outboxd.lane (kind, key) select distinct 'provider', split_part(added.recipients[1], '@', 2)\n"
                "  from added on conflict (kind, key) do update set key = excluded.key;\n"
                "  insert into outboxd.ready (id,",
            ),
        ),
        test="tests/db/test_shared_rows.py::test_an_insert_creates_no_shared_row",
    ),
    Canary(
        "rule-11-keys-in-any-order", "bulk inserts take their keys in one order",
        (Edit(QUEUE, " where dedupe_key is not null order by tenant, dedupe_key\n", " where dedupe_key is not null\n"),),
        test=f"{PROTOCOL}TestRule11TheTriggerSharesNoRow::test_bulk_inserts_with_keys_in_opposite_order_do_not_deadlock",
    ),
    Canary(
        "rule-14-by-time", "there is one outcome per email",
        (
            Edit(
                "migrations/versions/0001_the_straight_path.py",
                "  reason text,\n  at timestamptz not null default clock_timestamp(),\n  primary key (id)\n",
                "  reason text,\n  at timestamptz not null default clock_timestamp(),\n  primary key (id, at)\n",
            ),
        ),
        test=f"{PROTOCOL}TestRule14OneOutcomePerEmail",
    ),
    Canary(
        "rule-15-bell-always", "two-phase commit passes where the bell is off",
        (Edit(QUEUE, "  if current_setting('outboxd.doorbell', true) is distinct from 'off'\n    and not", "  if not"),),
        test=f"{PROTOCOL}TestRule15TwoPhaseCommit",
    ),
    Canary(
        "rule-16-volatile-instant", "the instant of a claim is an index condition",
        (Edit(CLAIM, f"ready.scheduled_at <= {NOW}", "ready.scheduled_at <= coalesce(%(now)s::timestamptz, clock_timestamp())"),),
        test="tests/db/test_plans.py::test_a_claim_has_its_instant_in_the_index_condition",
    ),
    Canary(
        "rule-17-sleep-on-locked", "a daemon sleeps only where a plain read finds nothing due",
        (
            Edit(
                "sql/queries/ready/slots.sql",
                "   order by ready.queue, ready.lane, ready.priority, ready.scheduled_at, ready.id\n   limit 1)\n  union all",
                "   order by ready.queue, ready.lane, ready.priority, ready.scheduled_at, ready.id\n   limit 1\n"
                "   for update skip locked)\n  union all",
            ),
        ),
        test=f"{PROTOCOL}TestRule17RolledBackCancel",
    ),
    Canary(
        "rule-18-nobody-waits", "behind an open transaction somebody waits for the bell's key",
        (Edit("outboxd/db/wake.py", "self._conn.pgconn.send_query(WAIT)", 'self._conn.pgconn.send_query(b"select pg_sleep(60)")'),),
        test="tests/db/test_doorbell.py::test_behind_an_open_transaction_other_inserts_ring",
    ),
    Canary(
        "rule-19-past-dates", "what was due in the past lands before no watermark",
        (Edit(QUEUE, "greatest(added.scheduled_at, clock_timestamp())", "added.scheduled_at"),),
        test=f"{PROTOCOL}TestRule19PastDatesAndNewSlots",
    ),
    Canary(
        "rule-20-instant-before-the-lock", "the instant of a grant is read behind the locks",
        (Edit(GRANT, "    instant := coalesce(bound_now, clock_timestamp());\n", "    instant := begun_at;\n"),),
        test="tests/db/test_limits_race.py::TestRule20",
    ),
    Canary(
        "rule-20-instant-before-the-mailbox", "the instant of a grant is read behind the locks of mailboxes",
        (Edit(GRANT, "coalesce(bound_now, clock_timestamp());\n\n  if all_made", "begun_at;\n\n  if all_made"),),
        test="tests/db/test_limits_race.py::TestRule20",
    ),
    Canary(
        "rule-20-second-entry", "asking again moves the email's entry",
        (
            Edit("sql/functions/write_mailboxes.sql", "      where not known.emails && taken.emails\n", ""),
            Edit("sql/functions/write_mailboxes.sql", "      having known.emails && taken.emails),", "      having false),"),
        ),
        test="tests/db/test_limits.py::TestMailboxes::test_an_email_that_is_asked_for_again_and_again_has_one_entry",
    ),
    Canary(
        "rule-20-open-goes-back", "nothing goes back while an answer is open",
        (
            Edit(
                "outboxd/delivery/admission.py", "for parcel in parcels if parcel.open), mailboxes=False)",
                "for parcel in parcels if parcel.open))",
            ),
        ),
        test="tests/db/test_batches.py::test_an_open_batch_that_a_limit_holds_gives_back_what_its_other_members_were_granted",
    ),
    Canary(
        "rule-20-open-alone-goes-back", "nothing goes back of an email whose answer is open",
        (
            Edit(
                "sql/functions/give_back_limits.sql",
                "    select given.at is not null\n"
                "      and not exists (select from outboxd.progress where progress.id = given.id and progress.ambiguous)\n",
                "    select given.at is not null\n",
            ),
        ),
        test="tests/db/test_limits.py::TestMovingAndGivingBack",
    ),
    Canary(
        "rule-20-no-slack", "a window is longer by the time from grant to arrival",
        (
            Edit(GRANT, "longer constant interval := slack + interval '5 ms';", "longer constant interval := interval '0 s';"),
            Edit(GRANT, "mailbox_longer constant interval := slack + precision;", "mailbox_longer constant interval := interval '0 s';"),
        ),
        test="tests/db/test_limits.py::TestMailboxes::test_the_fourth_mail_in_an_hour_waits_until_the_first_leaves_the_window",
    ),
    Canary(
        "rule-21-split-at-once", "a batch with an open answer splits only a minute after it",
        (Edit("outboxd/core/batch.py", "        if (asked_at or now) < settled_at:\n", "        if False:\n"),),
        test="tests/db/test_batches.py::TestRule21LateFirstAsk",
    ),
    Canary(
        "rule-22-probes-burn", "a failed probe burns nothing and ends nothing",
        (Edit("outboxd/delivery/settler.py", "decide_one = decide_probe if probing else decide", "decide_one = decide"),),
        test="tests/db/test_breaker_shared.py::TestProbe::test_its_failure_opens_it_again_and_burns_nothing_and_ends_nothing",
    ),
    Canary(
        "rule-22-held-time-counts", "the time that something was held does not count towards giving up",
        (
            Edit(
                "outboxd/delivery/breakers.py", "_failed_first_at(result, since + held) if held else result", "result"
            ),
        ),
        test="tests/db/test_breaker_shared.py::TestHeldTime",
    ),
    Canary(
        "rule-23-asked-elsewhere", "an open answer is asked about only where it was asked first",
        (Edit("outboxd/delivery/gates.py", "if email.ambiguous and asked_at != (home.account, home.api_url):", "if False:"),),
        test=f"{PROTOCOL}TestRule23AnotherAccount",
    ),
    Canary(
        "rule-24-replaced-by-a-word", "what is in hand is not replaced",
        (Edit("sql/functions/enqueue.sql", "or not outboxd.withdraw(old_id) then", "or outboxd.withdraw(old_id) is null then"),),
        test="tests/db/test_replace.py::TestRule24ReplaceWhileSending",
    ),
)  # fmt: skip
ALL = (*CANARIES, *RULES)
