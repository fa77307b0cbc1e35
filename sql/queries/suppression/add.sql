-- Suppress one address; whether something changed. Raises 22023 for what is no address, reason or scope.
select outboxd.suppress(
  %(address)s, %(reason)s, %(scope)s, %(source)s, %(expires_at)s::timestamptz, %(cause)s) as changed,
  %(scope)s::text = 'all'
    or exists (select from outboxd.queue where queue.name = %(scope)s)
    or exists (select from outboxd.email_type where email_type.name = %(scope)s) as known_scope
