"""Alembic revisions as SQL text, forward only."""
