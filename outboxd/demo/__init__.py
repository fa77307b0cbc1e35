"""`outboxd demo`: a sample shop, a local Postgres, a local Resend and the daemon, all at once."""
