"""`outboxd types`: what types of email do otherwise than their queue."""

from outboxd.cli.rules import rules

COLUMNS = ("type", "queue", "max_attempts", "backoff", "backoff_base", "give_up_after", "inherited")

types = rules("types", "List the policies of types and change them.", COLUMNS)
