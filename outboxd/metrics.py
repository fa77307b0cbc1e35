"""Every instrument, declared once. Without a configured SDK they cost next to nothing and go nowhere.

Attributes have few values: outcomes, steps, queues, names of loops. Never an address, a subject or a uid.
"""

from opentelemetry import metrics as _api

_meter = _api.get_meter("outboxd")

claimed = _meter.create_counter("outboxd.claimed", "{email}", "Emails leased")
asks = _meter.create_counter("outboxd.asks", "{request}", "Requests to the provider, by outcome")
ask_duration = _meter.create_histogram("outboxd.ask.duration", "s", "From the first byte out to the answer")
settled = _meter.create_counter("outboxd.settled", "{email}", "Outcomes written, by step and queue")
due_to_accepted = _meter.create_histogram(
    "outboxd.due_to_accepted", "s", "From an email's due time to its acceptance"
)
leases_reclaimed = _meter.create_counter(
    "outboxd.leases.reclaimed", "{email}", "Emails given back by leases that ran out"
)
leases_lost = _meter.create_counter(
    "outboxd.leases.lost", "{email}", "Outcomes that came too late for their lease"
)
quarantined = _meter.create_counter(
    "outboxd.quarantined", "{email}", "Emails that ended as unknown at the crash limit"
)
throttled = _meter.create_counter("outboxd.throttled", "{request}", "Requests refused as too many")
paused = _meter.create_counter(
    "outboxd.paused", "{request}", "Requests refused for the account's or domain's sake"
)
pauses = _meter.create_counter("outboxd.pauses", "{pause}", "Pauses that began, by kind and reason")
breaker_openings = _meter.create_counter(
    "outboxd.breaker.openings", "{opening}", "Openings of the breaker that this daemon's answers caused"
)
expired_keys = _meter.create_counter(
    "outboxd.keys.expired", "{email}", "Emails that ended as unknown, 23 hours after an ask without an answer"
)
loop_errors = _meter.create_counter("outboxd.loop.errors", "{round}", "Rounds that failed, by loop")
reconnects = _meter.create_counter(
    "outboxd.reconnects", "{attempt}", "Attempts to reconnect to Postgres, by connection"
)
stalls = _meter.create_counter(
    "outboxd.stalls", "{connection}", "Connections cut because a statement got no answer, by connection"
)
claim_duration = _meter.create_histogram("outboxd.claim.duration", "s", "One claim, commit included")
settle_duration = _meter.create_histogram("outboxd.settle.duration", "s", "One settle, commit included")
