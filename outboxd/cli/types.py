"""`outboxd types`: what types of email do otherwise than their queue."""

from outboxd.cli.rules import rules
from outboxd.cli.stops import add_stops

COLUMNS = ("type", "queue", "max_attempts", "backoff", "backoff_base", "give_up_after", "inherited")

types = rules("types", "List the policies of types, change them, pause types.", COLUMNS)
add_stops(types, "type")
