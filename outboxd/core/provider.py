"""Mailbox providers: which one a domain belongs to, by list or by its mail exchangers. Pure.

A listed domain is its provider's: limits count it under the provider's name. Any other domain is a provider of its own;
where its exchangers are a known provider's, it joins that one for shaping only.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_COUNTRY: Final = re.compile(r"[a-z0-9-]+\.([a-z]{2,3}|com?\.[a-z]{2})")


@dataclass(frozen=True, slots=True)
class Provider:
    """`name` is what limits count under; `shaped_by` is whose override is obeyed where there is none of its own."""

    name: str
    shaped_by: str


def listed(domain: str, known: Mapping[str, str]) -> str | None:
    """The provider that lists a domain (lower case, A-labels), itself or by a pattern such as `yahoo.*`."""
    if domain in known:
        return known[domain]
    if _COUNTRY.fullmatch(domain):
        return known.get(f"{domain.partition('.')[0]}.*")
    return None


def by_exchangers(hosts: Iterable[str], suffixes: Mapping[str, str]) -> str | None:
    """The provider of the first host (in order of preference) that ends in a known suffix."""
    for host in hosts:
        labels = host.lower().rstrip(".").split(".")
        for start in range(len(labels) - 1):
            if provider := suffixes.get(".".join(labels[start:])):
                return provider
    return None
