-- Every gate of an email, in order, then its place and the answer. Locks nothing. Raises 22023 for an unknown uid.
select gates.step, gates.gate, gates.verdict, gates.holds, gates.free_at, gates.detail
from outboxd.explain(%(uid)s) as gates
order by gates.step
