"""A faithful local Resend: for the demo, for development and for tests."""
