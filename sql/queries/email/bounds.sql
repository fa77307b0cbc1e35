-- The first and the last id; an empty range where there is no email.
select coalesce(min(email.id), 0), coalesce(max(email.id), -1) from outboxd.email
