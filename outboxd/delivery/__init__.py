"""The path of one email: claim, gates, send, settle, and the repair of leases that ran out."""
