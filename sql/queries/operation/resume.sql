-- Resume something by hand; for an account also its breaker. Writes the operators' log. Which of them was stopped.
select resumed.kind
from unnest(%(kinds)s::text[]) as resumed (kind)
where outboxd.resume(resumed.kind, %(key)s)
