"""outboxd: the email outbox for Postgres."""
