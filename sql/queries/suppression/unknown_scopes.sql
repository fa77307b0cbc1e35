-- Of these scopes, those that stop nothing: neither `all` nor the name of a queue or of a type with a policy.
select given.scope
from unnest(%(scopes)s::text[]) as given (scope)
where given.scope <> 'all'
  and not exists (select from outboxd.queue where queue.name = given.scope)
  and not exists (select from outboxd.email_type where email_type.name = given.scope)
order by given.scope
