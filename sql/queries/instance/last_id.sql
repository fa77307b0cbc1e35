-- The newest email that there is.
select coalesce(max(email.id), 0) from outboxd.email
