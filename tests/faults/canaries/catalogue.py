"""The canaries: each breaks one law of the protocol, as a plausible change would."""

from .canary import Canary, Edit

SETTLE = "sql/queries/lease/settle.sql"
MEMBERSHIP = """\
  where case when (outcome.lease_id, outcome.id) in (
    select member_of.lease_id, unnest(member_of.ids)
    from outboxd.lease as member_of
    where member_of.lease_id = any (%(leases)s::uuid[])) then true end
"""
JOINED = "  join outboxd.lease on lease.lease_id = outcome.lease_id\n"
KEY = "wire.key(email.uid, email.generation)"
LEASED_UNTIL = "lease.lease_until < (select coalesce(%(now)s::timestamptz, clock_timestamp()))"
LOCK = '        conn.execute(query("lease/lock"), {"lease_ids": values["leases"]}, prepare=True)\n'
HOLD = '        conn.execute(query("word/hold_leases"), {"ids": ids})\n'
EXHAUSTED = (
    "    if attempts < policy.max_attempts:\n        return False\n    return not transient or next_at"
)
ASKED_AT = "    asked_at = steady()\n    return Result(held, _ask("
BOUND = "tests/db/test_claim_bound.py::test_a_claim_takes_no_more_than_its_limit_whatever_the_plan"
PROTOCOL = "tests/db/test_protocol.py::"
BURNS = "tests/core/test_retry.py::test_each_outcome_has_its_step_and_burns_what_it_should"
EVIDENCE = "TestRule2LateAcceptance::test_"

CANARIES = (
    Canary(
        "no-fence", "a settle is fenced by its lease: not the email's state counts, but whose it is",
        (
            Edit(SETTLE, MEMBERSHIP, ""),
            Edit(SETTLE, JOINED, "  join outboxd.lease on outcome.id = any (lease.ids)\n"),
            Edit(SETTLE, "    outcome.*, lease.frozen, ", "    outcome.*, lease.lease_id as held_by, lease.frozen, "),
            Edit(
                SETTLE,
                "select held.lease_id, array_agg(held.id) as ids from held group by held.lease_id",
                "select held.held_by as lease_id, array_agg(held.id) as ids from held group by held.held_by",
            ),
        ),
        storm="zombies", rules=frozenset({"S6"}),
    ),
    Canary(
        "settle-without-state", "a settle moves an email out of a lease, not from wherever it is",
        (
            Edit(SETTLE, MEMBERSHIP, ""),
            Edit(SETTLE, JOINED, f"  left{JOINED[1:]}"),
            Edit(SETTLE, "    outcome.*, lease.frozen, ", "    outcome.*, coalesce(lease.frozen, '{}') as frozen, "),
        ),
        storm="zombies", rules=frozenset({"S6"}),
    ),
    Canary(
        "fence-without-membership", "the fence is the lease and the email's membership in it",
        (Edit(SETTLE, MEMBERSHIP, ""),),
        test=f"{PROTOCOL}TestRule1FenceIsMembership",
    ),
    Canary(
        "key-per-attempt", "an email and a batch keep one key for all asks",
        (
            Edit("outboxd/delivery/sender.py", KEY, "wire.key(email.uid, email.generation + email.attempts)"),
            Edit("outboxd/core/batch.py", 'f"obxb1.{self.uid}.1"', 'f"obxb1.{self.uid}.{self.attempts + 1}"'),
        ),
        storm="answers", rules=frozenset({"S3"}),
    ),
    Canary(
        "key-from-id", "a key is random: after a promotion ids are given again",
        (Edit("outboxd/delivery/sender.py", KEY, 'f"obx1.{email.id}.{email.generation}"'),),
        test="tests/path/test_path.py::test_a_retry_after_a_restart_repeats_key_and_bytes_whatever_changed",
    ),
    Canary(
        "rendered-anew", "a retry sends the same bytes",
        (
            Edit(
                "outboxd/delivery/sender.py",
                'wire.render(email.payload or "", email.uid, email.frozen)',
                'wire.render(email.payload or "", email.uid, email.frozen) + b" " * email.attempts',
            ),
        ),
        storm="answers", rules=frozenset({"S4"}),
    ),
    Canary(
        "batch-torn", "a batch that may have been accepted stays together",
        (
            Edit(
                "outboxd/core/batch.py",
                'return [_with_its_batch(step) if step.name == "again" else step]',
                "return [step]",
            ),
        ),
        storm="answers", rules=frozenset({"S3"}),
    ),
    Canary(
        "claim-in-limit", "a claim takes no more than its limit, whatever the plan",
        (
            Edit(
                "sql/queries/lease/claim.sql",
                "), head as materialized (\n  select due.ctid\n",
                "), taken as (\n  delete from outboxd.ready\n  where ready.ctid in (select due.ctid\n",
            ),
            Edit(
                "sql/queries/lease/claim.sql",
                "  limit %(limit)s::integer\n), taken as (\n  delete from outboxd.ready\n"
                "  where ready.ctid = any (array(select head.ctid from head))\n",
                "  limit %(limit)s::integer)\n",
            ),
        ),
        test=BOUND,
    ),
    Canary(
        "claim-not-durable", "a claim is on disk before the first byte is sent",
        (Edit("sql/queries/schema/path_settings.sql", "in ('off', 'local') then 'on'", "in ('off', 'local') then 'off'"),),
        storm="crashes", rules=frozenset({"S2", "S8"}),
    ),
    Canary(
        "counters-unlogged", "what limits have granted outlives a crash",
        (
            Edit(
                "migrations/versions/0007_limits.py",
                "create table outboxd.window_count", "create unlogged table outboxd.window_count",
            ),
            Edit(
                "migrations/versions/0007_limits.py",
                "create table outboxd.recipient_count", "create unlogged table outboxd.recipient_count",
            ),
        ),
        test="tests/db/test_limits_race.py::test_what_was_granted_is_remembered_after_an_immediate_stop",
    ),
    Canary(
        "evidence-without-lock", "evidence of a late acceptance is written while the lease is held",
        (Edit("outboxd/db/word.py", HOLD, ""),),
        test=f"{PROTOCOL}{EVIDENCE}evidence_waits_for_the_settle_of_its_email",
    ),
    Canary(
        "settle-without-lock", "a settle reads what was said once its leases are locked",
        (Edit("outboxd/db/lease.py", LOCK, ""),),
        test=f"{PROTOCOL}{EVIDENCE}a_settle_waits_for_evidence_about_its_email_and_ends_it_as_sent",
    ),
    Canary(
        "no-23-hours", "what was asked 23 hours ago without an answer is not asked again",
        (Edit("outboxd/core/retry.py", "    hours=23\n", "    days=23\n"),),
        storm="aged", rules=frozenset({"S3", "S10"}),
    ),
    Canary(
        "ambiguity-forgotten", "an open answer stays open, whatever a later ask says",
        (
            Edit(SETTLE, "ambiguous = known.ambiguous or excluded.ambiguous", "ambiguous = excluded.ambiguous"),
            Edit("outboxd/core/retry.py", "    ambiguous = ambiguous or email.ambiguous\n", ""),
            Edit(
                "outboxd/core/retry.py",
                'return Step("again", email.attempts, email.ambiguous, email.transient, after, failure=failure)',
                'return Step("again", email.attempts, False, email.transient, after, failure=failure)',
            ),
        ),
        storm="refusals", rules=frozenset({"S10"}),
    ),
    Canary(
        "end-told-early", "an application is told of an end only where it is certain",
        (Edit("sql/functions/cancel.sql", "  return false;\n", "  return true;\n"),),
        storm="cancels", rules=frozenset({"S9"}),
    ),
    Canary(
        "end-told-before-its-commit", "an end is in the log and counted only once it is committed",
        (
            Edit(
                "outboxd/delivery/settler.py", "    try:\n        taken = settle_if_leased(",
                "    for one in settlements:\n        _note(one, one.step.name, results[0].held.now())\n"
                "    try:\n        taken = settle_if_leased(",
            ),
        ),
        test="tests/db/test_dead_letters.py::TestTold",
    ),
    Canary(
        "lease-too-short", "a lease lasts longer than a request may take",
        (
            Edit("outboxd/db/lease.py", '"ttl": ttl,', '"ttl": ttl / 10,'),
            Edit("outboxd/db/batch.py", '"ttl": ttl,', '"ttl": ttl / 10,'),
        ),
        storm="calm", rules=frozenset({"S8"}),
    ),
    Canary(
        "reclaimed-early", "nobody ends another's lease before its time",
        (
            Edit("sql/queries/lease/expired.sql", LEASED_UNTIL, f"{LEASED_UNTIL} + interval '2.5 s'"),
            Edit("sql/queries/lease/any_expired.sql", LEASED_UNTIL, f"{LEASED_UNTIL} + interval '2.5 s'"),
        ),
        storm="calm", rules=frozenset({"S7"}),
    ),
    Canary(
        "email-in-the-log", "no log names an address or a link",
        (
            Edit(
                "outboxd/delivery/sender.py", ASKED_AT,
                f'    __import__("logging").getLogger(__name__).warning("asking %s", body)\n{ASKED_AT}',
            ),
        ),
        storm="calm", rules=frozenset({"S17"}),
    ),
    Canary(
        "ids-reversed", "each member of a batch has the id that the answer names in its place",
        (
            Edit(
                "outboxd/core/batch.py",
                "for provider_id in outcome.provider_ids]", "for provider_id in reversed(outcome.provider_ids)]",
            ),
        ),
        storm="calm", rules=frozenset({"S5"}),
    ),
    Canary(
        "one-attempt", "an outage kills no email",
        (Edit("outboxd/core/retry.py", EXHAUSTED, "    return attempts >= 1 or next_at"),),
        storm="answers", rules=frozenset({"S13"}),
    ),
    Canary(
        "limits-not-held", "what a limit does not grant is not asked for",
        (
            Edit(
                "outboxd/delivery/admission.py",
                "        if not held:\n            return list(parcels), []",
                "        if True:\n            return list(parcels), []",
            ),
        ),
        test="tests/path/test_gates.py::test_a_recipient_gets_three_an_hour_and_a_reset_is_never_the_fourth",
    ),
    Canary(
        "suppression-not-asked", "who said no gets nothing",
        (Edit("outboxd/delivery/gates.py", "if email.suppressed and (", "if False and ("),),
        storm="aged", rules=frozenset({"S9"}),
    ),
    Canary(
        "expiry-not-asked", "what is too late to send is not sent",
        (Edit("outboxd/delivery/gates.py", "and email.expires_at <= now:", "and email.expires_at <= now and False:"),),
        storm="aged", rules=frozenset({"S9"}),
    ),
    Canary(
        "wanted-mail-expired", "only what is too late to send expires",
        (Edit("outboxd/delivery/gates.py", "    if email.expires_at is not None and", "    if email.id % 50 == 0 or email.expires_at is not None and"),),
        storm="calm", rules=frozenset({"S13"}),
    ),
    Canary(
        "nothing-reclaimed", "what a dead daemon held is asked for by another",
        (Edit("sql/queries/lease/expired.sql", f"where {LEASED_UNTIL}", f"where false and {LEASED_UNTIL}"),),
        storm="calm", rules=frozenset({"L1"}),
    ),
    Canary(
        "throttle-burns", "a throttle burns no attempt",
        (
            Edit(
                "outboxd/core/retry.py",
                "return _unburned(email, failure, after + timedelta(seconds=draw() * 0.1))",
                'return Step("again", email.attempts + 1, email.ambiguous, email.transient, after, failure=failure)',
            ),
        ),
        test=BURNS,
    ),
    Canary(
        "first-ask-moved", "the 23 hours of an open batch begin with its first ask",
        (
            Edit(
                SETTLE,
                "else coalesce(batch.first_asked_at, held.asked_at) end",
                "else coalesce(held.asked_at, batch.first_asked_at) end",
            ),
        ),
        storm="answers", rules=frozenset({"S10"}),
    ),
    Canary(
        "word-not-kept", "what is taken back in hand is not asked for again",
        (
            Edit(
                "sql/functions/cancel.sql",
                "  where not exists (select from outboxd.delivery where delivery.id = found_id)\n",
                "  where false and not exists (select from outboxd.delivery where delivery.id = found_id)\n",
            ),
        ),
        storm="silences", rules=frozenset({"S9"}),
    ),
    Canary(
        "suspects-forgotten", "what was in hand at a crash is claimed again, alone",
        (Edit("outboxd/delivery/claimer.py", "if slot.lane == -1]", "if slot.lane == -3]"),),
        storm="suspects", rules=frozenset({"L1"}),
    ),
    Canary(
        "unwanted-unknown", "only an open answer makes unknown what nobody wants any more",
        (
            Edit(
                "outboxd/core/retry.py",
                "    name, message = _why_not_asked(outcome)\n    if email.ambiguous:\n",
                "    name, message = _why_not_asked(outcome)\n    if email.ambiguous or email.payload:\n",
            ),
        ),
        storm="aged", rules=frozenset({"S13"}),
    ),
)  # fmt: skip
