-- The first and the last id; nulls where there is no email.
select min(email.id), max(email.id) from outboxd.email
