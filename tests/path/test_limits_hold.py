"""Five kinds of limit at once, four daemons, some of them killed: never over in any true sliding window, and filled."""

import json
import random
from dataclasses import dataclass
from datetime import timedelta

import pytest
from conftest_path import count, drained, only_once
from factories import payload
from ledger import accepted, by_key, filled, most_within
from waiting import until

from outboxd.sink.options import Fault

pytestmark = [pytest.mark.path, pytest.mark.slow]
SCALE = 0.1  # of every window
SLACK = (
    1.005  # seconds by which a window is longer than its limit says: from grant to arrival, and the precision
)
GRANTS = """
create table public.granted (email bigint, at timestamptz, primary key (email, at));
create function public.note_grant() returns trigger language plpgsql security definer as $$
begin
  insert into public.granted select * from unnest(new.emails, new.at) on conflict do nothing;
  return null;
end $$;
create trigger note_grant after insert or update on outboxd.recipient_count
for each row execute function public.note_grant();
"""


@dataclass(frozen=True)
class Rule:
    """One limit; the windows of all of them are shortened by `--time-scale`."""

    kind: str
    key: str | None
    most: int | None
    per: timedelta = timedelta(seconds=60)

    def window(self, scale: float) -> float:
        return self.per.total_seconds() * scale


def rules(most: int) -> list[Rule]:
    """One of each kind binds somewhere, and all of them count everywhere. `most` is how many a burst has."""
    roomy = [Rule("provider_minute", f"p{n}.example", 10_000) for n in range(6, 12)]
    days = [Rule("provider_day", f"p{n}.example", 2 * most, timedelta(seconds=70)) for n in (6, 7)]
    return [
        Rule("provider_minute", None, most), *roomy, *days,
        Rule("campaign", None, most), Rule("tenant", None, most), Rule("queue", "marketing", most),
        Rule("recipient", None, most // 4),
    ]  # fmt: skip


def mails(groups: dict[str, int]) -> list[dict]:
    """What the application inserts: recipients are 500, and every group is held by another limit."""
    draw, found = random.Random(5), []

    def add(count: int, domain: str, names: int, **columns: str) -> None:
        for n in range(count):
            to = f"r{n % names}@{domain}.example"
            found.append({"type": "welcome", "payload": payload(to=to), **columns})

    for n in range(6):
        add(groups["minute"], f"p{n}", 60)
    for n in (6, 7):
        add(groups["day"], f"p{n}", 30)
    add(groups["campaign"], "p8", 30, campaign="may")
    add(groups["tenant"], "p9", 23, tenant="acme")
    add(groups["queue"], "p10", 20, type="newsletter")
    add(groups["recipient"], "p11", 7)
    draw.shuffle(found)
    return found


def put(conn, items: list[dict]) -> int:
    """Enqueue them; how many went into the lane of the campaign at once, as when its limit holds."""
    with conn.transaction():
        conn.execute("select outboxd.enqueue_many(%s::jsonb)", (json.dumps(items),))
        return conn.execute(
            "select count(*) from outboxd.email join outboxd.ready using (id) join outboxd.lane on lane.id = ready.lane"
            " where email.created_at >= now() and lane.kind = 'campaign' and lane.key = email.campaign"
        ).fetchone()[0]


def set_rules(conn, found: list[Rule]) -> None:
    conn.execute("delete from outboxd.limit_rule")
    for number, rule in enumerate(found):
        conn.execute(
            "insert into outboxd.limit_rule (name, kind, key, most, per) values (%s, %s, %s, %s, %s)",
            (f"r{number}", rule.kind, rule.key, rule.most, rule.per),
        )


def keys_of(conn) -> dict[str, list[tuple[str, str]]]:
    """By uid, every (kind, key) that an email counts for."""
    found = {}
    for uid, to, queue, campaign, tenant in conn.execute(
        "select uid::text, recipients[1], queue, campaign, tenant from outboxd.email"
    ).fetchall():
        domain = to.rpartition("@")[2]
        keys = [("recipient", to), ("provider_minute", domain), ("provider_day", domain), ("queue", queue)]
        found[uid] = keys + [(kind, key) for kind, key in (("campaign", campaign), ("tenant", tenant)) if key]
    return found


def rule_of(found: list[Rule], kind: str, key: str) -> Rule | None:
    named = {(rule.kind, rule.key): rule for rule in found}
    return named.get((kind, key)) or named.get((kind, None))


def from_grant_to_ask(conn, arrivals: list[tuple[float, str]]) -> list[float]:
    """Seconds between each arrival and the last grant before it."""
    grants: dict[str, list[float]] = {}
    for uid, at in conn.execute(
        "select uid::text, extract(epoch from at)::float8 from granted join outboxd.email on id = granted.email"
    ).fetchall():
        grants.setdefault(uid, []).append(at)
    return [at - max(grant for grant in grants[uid] if grant <= at) for at, uid in arrivals]


def prove(
    conn, sink, daemon, *, most: int, groups: dict[str, int], kills: int, fill: float, scale: float = SCALE
) -> None:
    running, found, patience = sink(think_time=0.1), rules(most), 240 * scale / SCALE
    conn.execute(GRANTS)
    set_rules(conn, found)
    emails = mails(groups)
    put(conn, emails[: len(emails) // 2])
    options = {"arguments": ["--time-scale", str(scale)], "limits": True, "OUTBOXD_SENDER__THREADS": "8"}
    daemons = [daemon(running.url, **options) for _ in range(4)]
    closed = "kind = 'campaign' and key = 'may' and closed_until is not null"
    until(lambda: count(conn, "lane", closed), what="the campaign's limit to hold")
    late = emails[len(emails) // 2 :]
    assert put(conn, late) == sum(email.get("campaign") == "may" for email in late) > 0
    for number in range(kills):
        wanted = len(emails) * (number + 1) // (kills + 2)
        until(
            lambda wanted=wanted: len(running.provider.accepted_by_uid) >= wanted,
            within=patience,
            what="the sending",
        )
        daemons[number % 4].kill()
        daemons[number % 4].start()
    until(lambda: drained(conn), within=patience, what="all to go")
    assert only_once(running)["accepted"] == len(emails)
    judge(conn, accepted(running), found, fill, scale)


def judge(conn, arrivals: list[tuple[float, str]], found: list[Rule], fill: float, scale: float) -> None:
    keys = keys_of(conn)
    died = dict(conn.execute(
        "select uid::text, count(*) from outboxd.attempt join outboxd.email using (id) "
        "where outcome = 'lease_expired' group by 1").fetchall())  # fmt: skip
    # What died in hand is no demand before its lease has ended: a limit is to be filled until the last of the others went.
    lived = by_key([(at, uid) for at, uid in arrivals if uid not in died], keys.__getitem__)
    over, shares = {}, {}
    for (kind, key), times in by_key(arrivals, keys.__getitem__).items():
        rule = rule_of(found, kind, key)
        if rule is None or rule.most is None:
            continue
        if (within := most_within(times, rule.window(scale))) > rule.most:
            over[kind, key] = (within, rule.most)
        lost = sum(times for uid, times in died.items() if (kind, key) in keys[uid])
        if len(times) > 2 * rule.most:
            demand = [at for at in times if at <= max(lived[kind, key], default=0.0)]
            judged = demand if len(demand) > 2 * rule.most else times
            shares[kind, key] = filled(judged, rule.most, rule.window(scale) + SLACK, lost=lost)
    waits = from_grant_to_ask(conn, arrivals)
    least = {
        kind: f"{min(share for key, share in shares.items() if key[0] == kind):.1%}" for kind, _ in shares
    }
    print(
        f"\nfrom grant to ask at most {max(waits):.3f} s; died in hand {sum(died.values())}; filled {least}"
    )
    assert over == {}
    assert {kind for kind, _ in shares} == {
        "recipient",
        "provider_minute",
        "provider_day",
        "campaign",
        "tenant",
        "queue",
    }
    assert max(waits) <= 1.0
    assert {key: share for key, share in shares.items() if share < fill} == {}


def test_a_grant_is_moved_while_its_email_waits_for_the_provider(conn, sink, daemon):
    running = sink(rate_limit=5)
    conn.execute(GRANTS)
    set_rules(conn, [Rule("recipient", None, 1000)])
    conn.execute("update outboxd.queue set batch = false")
    put(conn, [{"type": "welcome", "payload": payload(to=f"r{n}@p.example")} for n in range(40)])
    daemon(running.url, limits=True, arguments=["--time-scale", str(SCALE)])
    until(lambda: len(running.provider.accepted_by_uid) >= 10, what="sending")
    running.provider.control({"faults": (Fault("429", argument=3),)})
    until(lambda: running.provider.verdicts["fault"], what="the provider to hold everything back")
    running.provider.control({"faults": ()})
    until(lambda: drained(conn), within=30, what="all to go")
    waits = from_grant_to_ask(conn, accepted(running))
    print(f"\nfrom grant to ask at most {max(waits):.3f} s")
    assert max(waits) <= 1.0


# Three windows' worth of each. Of a run of two periods of 7 s a busy machine takes seconds; that nearly all is used is
# what the long run shows.
SHORT = {"minute": 50, "day": 90, "campaign": 50, "tenant": 50, "queue": 50, "recipient": 84}
LONG = {"minute": 1300, "day": 1700, "campaign": 2000, "tenant": 2000, "queue": 2000, "recipient": 2800}


def test_four_daemons_exceed_no_limit_and_use_what_binds_again(conn, sink, daemon):
    prove(conn, sink, daemon, most=20, groups=SHORT, kills=2, fill=0.5)


@pytest.mark.long
def test_four_daemons_exceed_no_limit_with_twenty_thousand_emails_and_kills(conn, sink, daemon):
    prove(conn, sink, daemon, most=240, groups=LONG, kills=8, fill=0.95, scale=0.2)
