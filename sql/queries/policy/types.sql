-- The policy of every type that has one; `inherited` names what is its queue's.
select type, queue, max_attempts, backoff, backoff_base, give_up_after, inherited
from outboxd.type_policy
order by type
