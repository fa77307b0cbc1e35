"""outboxd: the email outbox for Postgres.

from outboxd import Email, enqueue

enqueue(conn, Email(from_="Shop <hi@shop.example>", to="ada@example.org", subject="Hello", html="<p>Hi</p>"), type="welcome")
"""

from outboxd.client import Attachment, Email, Enqueued, enqueue, enqueue_many

__all__ = ["Attachment", "Email", "Enqueued", "enqueue", "enqueue_many"]
