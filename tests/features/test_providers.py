"""Learning whose a domain is: never on the path, once for all daemons, bounded."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outboxd import providers
from outboxd.core.provider import Provider, listed
from outboxd.providers import Providers


class Dns:
    """Answers from a table, and notes what it was asked."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): hosts for name, hosts in answers.items()}
        self.asked = []

    def __call__(self, domain):
        self.asked.append(domain)
        return self.answers.get(domain, ())


@pytest.fixture
def dns():
    return Dns(shop_example=["aspmx.l.google.com."], broken_example=None)


def knowing(dns, conn, **options):
    found = Providers(dns, **options)
    found.refresh(conn)
    return found


def test_a_listed_domain_is_known_without_asking(conn, dns):
    known = knowing(dns, conn)
    assert known.provider_of("googlemail.com") == Provider("gmail", "gmail")
    assert known.provider_of("hotmail.co.uk") == Provider("microsoft", "microsoft")
    assert known.round(conn) == 0
    assert dns.asked == []


def test_a_custom_domain_keeps_its_own_numbers_and_is_shaped_with_its_exchanger(conn, dns):
    known = knowing(dns, conn)
    assert known.provider_of("shop.example") == Provider("shop.example", "shop.example")
    assert dns.asked == [], "the path asks nobody"
    assert known.round(conn) == 1
    assert known.provider_of("shop.example") == Provider("shop.example", "gmail")


def test_what_one_daemon_looked_up_the_others_read(conn, dns):
    for daemon in (knowing(dns, conn), knowing(dns, conn)):
        daemon.provider_of("shop.example")
        daemon.round(conn)
        assert daemon.provider_of("shop.example").shaped_by == "gmail"
    assert dns.asked == ["shop.example"]


def test_a_failed_look_up_is_kept_for_minutes_and_no_exchanger_for_a_day(conn, dns):
    known = knowing(dns, conn)
    for domain in ("broken.example", "nobody.example", "shop.example"):
        known.provider_of(domain)
    known.round(conn)
    rows = conn.execute(
        "select domain, extract(epoch from expires_at - looked_up_at)::integer / 60 from outboxd.domain_mx order by 1"
    ).fetchall()
    assert rows == [("broken.example", 15), ("nobody.example", 1440), ("shop.example", 7 * 1440)]
    assert known.provider_of("broken.example") == Provider("broken.example", "broken.example")


def test_an_answer_is_kept_while_it_is_asked_for_again_after_an_hour(conn, dns):
    clock = [0.0]
    known = knowing(dns, conn, clock=lambda: clock[0])
    known.provider_of("shop.example")
    known.round(conn)
    clock[0] = providers.AGAIN + 1
    conn.execute("update outboxd.domain_mx set expires_at = clock_timestamp()")
    dns.answers["shop.example"] = ["mx1.mail.icloud.com."]
    assert known.provider_of("shop.example").shaped_by == "gmail"
    known.round(conn)
    assert known.provider_of("shop.example").shaped_by == "icloud"


def test_a_round_begins_no_look_up_after_its_budget_and_forgets_none(conn, dns):
    clock = [0.0]

    def slow(domain):
        clock[0] += 2.0
        return dns(domain)

    known = knowing(slow, conn, clock=lambda: clock[0])
    for n in range(5):
        known.provider_of(f"d{n}.example")
    assert [known.round(conn) for _ in range(4)] == [2, 2, 1, 0]


def test_memory_is_bounded(conn, dns, monkeypatch):
    monkeypatch.setattr(providers, "KNOWN", 3)
    monkeypatch.setattr(providers, "WANTED", 5)
    known = knowing(dns, conn)
    for n in range(20):
        known.provider_of(f"d{n}.example")
    assert known.round(conn) == 5
    assert len(known._known) == 3


def test_a_changed_list_counts_at_the_next_refresh(conn, dns):
    known = knowing(dns, conn)
    assert known.provider_of("gmail.com").name == "gmail"
    conn.execute("update outboxd.provider_domain set provider = 'g' where domain = 'gmail.com'")
    known.refresh(conn)
    assert known.provider_of("gmail.com").name == "g"


LABEL = st.sampled_from(["yahoo", "gmail", "live", "com", "co", "fr", "uk", "evil", "example", "a-b", "x"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(domain=st.lists(LABEL, min_size=1, max_size=4).map(".".join))
def test_sql_and_python_agree_on_what_is_listed(conn, dns, domain):
    known = knowing(dns, conn)
    in_sql = conn.execute("select outboxd.provider_of(%s)", (domain,)).fetchone()[0]
    assert in_sql == listed(domain, known.domains)
