-- Every limit, for the daemon.
select limit_rule.kind, limit_rule.key, limit_rule.most, limit_rule.per, limit_rule.options
from outboxd.limit_rule
