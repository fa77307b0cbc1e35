"""HTTP that the daemon answers."""
