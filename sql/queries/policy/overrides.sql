-- The mailbox providers that are slowed or suspended.
select provider_override.provider from outboxd.provider_override
