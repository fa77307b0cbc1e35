-- Whether some mailbox provider is slowed or suspended.
select exists (select from outboxd.provider_override)
