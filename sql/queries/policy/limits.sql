-- Every limit. `key` null: for each key by itself. `most` null: no limit.
select name, kind, key, most, per, exempt_types, pace, critical_share, starts_on
from outboxd.limit_policy
order by kind, key nulls first
