"""`outboxd queues`: how many attempts, at what pace, in which order, kept how long."""

from outboxd.cli.rules import rules
from outboxd.cli.stops import add_stops

COLUMNS = ("queue", "priority", "weight", "critical", "max_attempts", "backoff", "backoff_base", "give_up_after",
           "dedupe_for", "keep_done_for", "keep_failed_for")  # fmt: skip

queues = rules("queues", "List queues, change their policy, pause them.", COLUMNS)
add_stops(queues, "queue")
