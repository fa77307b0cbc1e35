"""Which limits an email is under, and which provider a domain belongs to."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limiting import DAY, HOUR, MINUTE, itself, subject

from outboxd.core.limits import Limit, Limits, ask, from_rule
from outboxd.core.provider import Provider, by_exchangers, listed

LISTED = {
    "gmail.com": "gmail",
    "googlemail.com": "gmail",
    "yahoo.*": "yahoo",
    "live.*": "microsoft",
    "me.com": "icloud",
}
SUFFIXES = {"google.com": "gmail", "protection.outlook.com": "microsoft", "yahoodns.net": "yahoo"}


def group(domain: str) -> Provider:
    name = listed(domain, LISTED) or domain
    return Provider(name, name)


@pytest.mark.parametrize(
    ("domain", "provider"),
    [
        ("gmail.com", "gmail"),
        ("yahoo.com", "yahoo"),
        ("yahoo.fr", "yahoo"),
        ("yahoo.co.uk", "yahoo"),
        ("yahoo.com.br", "yahoo"),
        ("yahoo.evil.example", None),
        ("yahoo.example", None),
        ("mail.yahoo.fr", None),
        ("notgmail.com", None),
        ("gmail.com.evil.example", None),
        ("", None),
        ("xn--mnchen-3ya.de", None),
    ],
)
def test_a_domain_is_listed_itself_or_by_a_country_pattern(domain, provider):
    assert listed(domain, LISTED) == provider


@pytest.mark.parametrize(
    ("hosts", "provider"),
    [
        (["aspmx.l.google.com.", "alt1.aspmx.l.google.com."], "gmail"),
        (["Shop-Example.mail.protection.OUTLOOK.com."], "microsoft"),
        (["mx.backup.example.", "mta5.am0.yahoodns.net."], "yahoo"),
        (["mx.notgoogle.com.", "google.com.evil.example."], None),
        (["."], None),
        ([], None),
    ],
)
def test_exchangers_are_known_by_whole_labels_at_the_end(hosts, provider):
    assert by_exchangers(hosts, SUFFIXES) == provider


def test_domains_of_one_provider_share_its_limits():
    emails = [subject(1, "a@gmail.com"), subject(2, "b@googlemail.com"), subject(3, "c@shop.example")]
    wanted = ask(
        emails,
        Limits([Limit("provider_day", None, 10_000, DAY), Limit("provider_day", "gmail", 2000, DAY)]),
        group,
    )
    assert wanted.keys == ["gmail", "shop.example"]
    assert wanted.key_most == [2000, 10_000]
    assert wanted.share_key == [1, 1, 2]


def test_every_kind_that_applies_is_asked_and_no_other():
    limits = Limits([
        Limit("recipient", None, 3, HOUR), Limit("provider_minute", None, 100, MINUTE), Limit("queue", "marketing", 9, HOUR),
        Limit("type", "digest", 2, HOUR), Limit("campaign", None, 5, HOUR), Limit("tenant", "acme", 7, HOUR),
        Limit("account", None, 10, timedelta(seconds=1)),
    ])  # fmt: skip
    plain = ask([subject(1)], limits, itself)
    assert list(zip(plain.kinds, plain.keys, strict=True)) == [("provider_minute", "example.org")]
    full = ask([subject(1, type="digest", queue="marketing", campaign="may", tenant="acme")], limits, itself)
    assert full.kinds == ["queue", "type", "campaign", "tenant", "provider_minute"]
    assert full.addresses == ["ada@example.org"]


def test_an_exempt_type_is_asked_for_nothing_of_that_limit():
    limits = Limits([from_rule("recipient", None, 3, HOUR, {"exempt_types": ["reset"]})])
    assert ask([subject(1, type="reset")], limits, itself).addresses == []
    assert ask([subject(1)], limits, itself).addresses == ["ada@example.org"]


def test_a_row_without_a_number_lifts_the_limit_for_its_key():
    limits = Limits([Limit("tenant", None, 5, HOUR), Limit("tenant", "acme", None, HOUR)])
    wanted = ask([subject(1, tenant="acme"), subject(2, tenant="b")], limits, itself)
    assert [key for kind, key in zip(wanted.kinds, wanted.keys, strict=True) if kind == "tenant"] == ["b"]


def test_a_provider_without_a_limit_is_still_asked_whether_it_is_suspended():
    wanted = ask([subject(1)], Limits(), itself)
    assert (wanted.keys, wanted.key_most, wanted.key_provider) == (["example.org"], [None], ["example.org"])


def test_a_time_scale_shortens_every_window():
    limits = Limits([Limit("recipient", None, 3, HOUR), Limit("queue", None, 9, MINUTE)], time_scale=0.01)
    wanted = ask([subject(1)], limits, itself)
    assert wanted.mailbox_per == [timedelta(seconds=36)]
    assert wanted.key_per[0] == timedelta(seconds=0.6)


ADDRESS = st.builds("{}@{}.example".format, st.sampled_from("abc"), st.sampled_from("xyz"))
EMAILS = st.lists(st.lists(ADDRESS, min_size=1, max_size=5), max_size=8)


@given(EMAILS)
def test_columns_are_in_order_and_add_up(recipients):
    limits = Limits(
        [Limit("recipient", None, 3, HOUR), Limit("provider_day", None, 9, DAY), Limit("queue", None, 9, DAY)]
    )
    wanted = ask([subject(n, *to) for n, to in enumerate(recipients)], limits, itself)
    assert wanted.mailbox_of == sorted(wanted.mailbox_of)
    assert wanted.share_of == sorted(wanted.share_of)
    assert len(set(zip(wanted.kinds, wanted.keys, strict=True))) == len(wanted.keys)
    assert len(set(zip(wanted.share_of, wanted.share_key, strict=True))) == len(wanted.share_of)
    demand = [0] * len(wanted.keys)
    for key, units in zip(wanted.share_key, wanted.share_units, strict=True):
        demand[key - 1] += units
    assert wanted.key_demand == demand
    assert len(wanted.addresses) == sum(len(set(to)) for to in recipients)


@pytest.mark.parametrize(
    ("overrides", "obeyed"),
    [
        (["shop.example", "gmail"], "shop.example"),
        (["gmail"], "gmail"),
        (["other"], "gmail"),
        (None, "gmail"),
    ],
)
def test_a_custom_domain_obeys_its_own_override_else_that_of_its_group(overrides, obeyed):
    limits = Limits([Limit("provider_minute", None, 10, MINUTE)], overrides=overrides)
    wanted = ask([subject(1, "ada@shop.example")], limits, lambda domain: Provider(domain, "gmail"))
    assert (wanted.keys, wanted.key_provider) == (["shop.example"], [obeyed])


def test_what_is_remembered_of_a_provider_is_its_own_though_the_lists_change_meanwhile():
    limits = Limits([Limit("provider_minute", None, 10, MINUTE)], overrides=())
    told = iter([Provider("gmail", "gmail")])
    first = [subject(1, "ada@gmail.com")]
    ask(first, limits, lambda domain: next(told, Provider(domain, domain)))
    assert ask(first, limits, group).keys == ["gmail"]


def test_a_key_is_asked_for_all_emails_that_are_alike_and_in_the_next_ask_again():
    limits = Limits([Limit("provider_minute", None, 10, MINUTE)], overrides=())
    emails = [subject(n, f"u{n}@gmail.com") for n in (1, 2, 3)]
    for wanted in (emails, emails[:2]):
        assert ask(wanted, limits, group).key_demand == [len(wanted)]
