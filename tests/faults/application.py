"""Applications: threads that insert, roll back, cancel and replace, and write down what they believe of each email."""

import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from .history import Cancel, Fate, Insert, Suppression

SECRET = "https://shop.example/reset?token=planted-7c1e"
BAD = (
    "422",
    "500.1",
    "reset.2",
    "503.2",
    "concurrent.1",
)  # what is refused for a recipient is never accepted
INSERT = (
    "insert into outboxd.email (type, payload, scheduled_at, expires_at)"
    " values (%s, %s, %s, %s::timestamptz + %s * interval '1 s') returning uid"
)
AWAY = ("08", "53", "57P")  # classes of errors of a server that is away, or full
OFTEN = 0.015  # of the transactions: to one mailbox, whose limit holds them
EXPIRING = 0.03  # of the emails, within some seconds of their time
ENQUEUE = (
    "select uid, duplicate from outboxd.enqueue(payload => %s::jsonb, type => %s, dedupe_key => %s, on_duplicate => %s,"
    " scheduled_at => clock_timestamp() + %s * interval '1 s')"
)


@dataclass(slots=True)
class Record:
    """What all applications believe. Appended to by their threads."""

    inserts: list[Insert] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    suppressions: list[Suppression] = field(default_factory=list)


class Application:
    """One thread with one connection. It commits its share of `emails`, at `rate` a second, and goes on until `stop`."""

    def __init__(
        self,
        number: int,
        url: Callable[[], str],
        *,
        seed: int,
        emails: int,
        rate: float,
        stop: threading.Event,
        calm: threading.Event,
        relaxed: bool = False,
    ) -> None:
        self.number = number
        self.record = Record()
        self.inserted = 0
        self.refused: list[str] = []
        self._url, self._emails, self._rate, self._stop = url, emails, rate, stop
        self._luck = random.Random(seed * 1000 + number)
        self._calm = calm
        self.loses = False  # once a standby that has lost its tail may be promoted
        self.bad = ""  # what some recipients make the provider answer, besides the usual
        self._conn: psycopg.Connection | None = None
        self._recent: deque[str] = deque(maxlen=40)
        self._written_to: deque[str] = deque(maxlen=40)
        self._relaxed = relaxed or number % 2 == 1
        self._n = 0
        self._acked = 0
        self.thread = threading.Thread(target=self._work, name=f"application {number}", daemon=True)

    def give_up(self) -> None:
        """End without the rest of its share."""
        self._emails = 0
        self._stop.set()

    def _work(self) -> None:
        began = time.monotonic()
        while self._acked < self._emails or not self._stop.is_set():
            if not self._calm.wait(0.2):
                began += 0.2
                continue
            ahead = self.inserted / self._rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(min(ahead, 0.2))
                continue
            try:
                self._act()
            except psycopg.OperationalError as error:
                if not (error.sqlstate or AWAY[0]).startswith(AWAY):
                    self.refused.append(f"{type(error).__name__}: {error}"[:300])
                self._drop()  # the server is away; the operation has its fate already
                time.sleep(0.05)
            except Exception as error:  # noqa: BLE001 - whatever it is, it fails the run
                self.refused.append(f"{type(error).__name__}: {error}"[:300])
                self._drop()
        self._drop()

    def _act(self) -> None:
        draw = self._luck.random()
        if not self.record.suppressions:
            self._write_to_suppressed()
        elif draw < 0.6:
            self._insert(rolls_back=False)
        elif draw < 0.7:
            self._insert(rolls_back=True)
        elif draw < 0.85:
            self._enqueue()
        elif draw < 0.97:
            self._cancel()
        elif draw < 0.985:
            self._suppress_recent()
        else:
            self._write_to_suppressed()

    def _insert(self, *, rolls_back: bool) -> None:
        made = [self._new() for _ in range(self._luck.randint(1, 25))]
        kind = self._luck.choice(
            ("welcome", "newsletter", "newsletter", "drip" if self._luck.random() < 0.1 else "invoice")
        )
        if self._luck.random() < OFTEN:
            kind = "often"
        delay = self._luck.choice((None, None, None, 0.5, 1.5))
        self.record.inserts += made
        try:
            conn = self._connection()
            for insert in made:
                at = self._at(conn, delay)
                row = conn.execute(
                    INSERT, (kind, self._payload(insert.marker, kind), at, at, self._lives())
                ).fetchone()
                insert.uid = str(row[0])
            if rolls_back:
                conn.rollback()
                return
            self._commit(made)
        finally:
            self.inserted += len(made)
        self._recent.extend(insert.uid for insert in made if insert.uid)
        self._written_to.extend(insert.marker for insert in made)

    def _lives(self) -> float | None:
        """Seconds from its time until an email expires; None where it does not."""
        return self._luck.choice((0.2, 2.0, 5.0)) if self._luck.random() < EXPIRING else None

    def _at(self, conn: psycopg.Connection, delay: float | None) -> object:
        if delay is None:
            return conn.execute("select clock_timestamp()").fetchone()[0]
        return conn.execute("select clock_timestamp() + %s * interval '1 s'", (delay,)).fetchone()[0]

    def _enqueue(self) -> None:
        """Two of three times with a key that was used before; half of them replace."""
        insert = self._new()
        insert.dedupe_key = f"k{self.number}-{self._luck.randint(0, 3 + self.inserted // 3)}"
        how = self._luck.choice(("ignore", "replace", "replace"))
        self.record.inserts.append(insert)
        self.inserted += 1
        conn = self._connection()
        values = (
            self._payload(insert.marker),
            "welcome",
            insert.dedupe_key,
            how,
            self._luck.choice((0.0, 1.0)),
        )
        uid, insert.duplicate = conn.execute(ENQUEUE, values).fetchone()
        insert.uid = str(uid)
        self._commit([insert])

    def _cancel(self) -> None:
        if not self._recent:
            return
        uid = self._luck.choice(self._recent)
        conn = self._connection()
        conn.execute("set local synchronous_commit = on")  # what is promised to a person waits for the disk
        try:
            certain = conn.execute("select outboxd.cancel(%s)", (uid,)).fetchone()[0]
        except psycopg.errors.InvalidParameterValue:
            if not (self._relaxed or self.loses):  # a crash may have lost what did not wait for the disk
                raise
            self._drop()
            return
        try:
            conn.commit()
        except psycopg.OperationalError:
            self.record.cancels.append(Cancel(uid, "ambiguous", time.time(), certain))
            self._drop()
            raise
        self.record.cancels.append(Cancel(uid, "acked", time.time(), certain))

    def _suppress_recent(self) -> None:
        """Somebody who was just written to wants no more; the email may be anywhere on its way."""
        if self._written_to:
            self._suppress(self._luck.choice(self._written_to))

    def _write_to_suppressed(self) -> None:
        """An email to somebody who wanted no more before it was inserted."""
        insert = self._new()
        self._suppress(insert.marker)
        self.record.inserts.append(insert)
        self.inserted += 1
        conn = self._connection()
        values = ("welcome", self._payload(insert.marker), self._at(conn, None), None, None)
        insert.uid = str(conn.execute(INSERT, values).fetchone()[0])
        self._commit([insert])

    def _suppress(self, marker: str) -> None:
        conn = self._connection()
        conn.execute("set local synchronous_commit = on")  # what is promised to a person waits for the disk
        conn.execute("select outboxd.suppress(%s, 'admin')", (marker,))
        fate: Fate = "ambiguous"
        try:
            conn.commit()
            fate = "acked"
        finally:
            self.record.suppressions.append(Suppression(marker, fate, time.time()))

    def _commit(self, made: list[Insert]) -> None:
        for insert in made:
            insert.fate = "ambiguous"
        assert self._conn is not None
        try:
            self._conn.commit()
        except psycopg.OperationalError:
            self._drop()
            raise
        for insert in made:
            insert.fate, insert.at = "acked", time.time()
            self._acked += not insert.duplicate

    def _new(self) -> Insert:
        self._n += 1
        marker = f"m{self.number}x{self._n}@example{self._luck.randint(1, 5)}.org"
        return Insert(marker, "aborted", time.time(), relaxed=self._relaxed)

    def _payload(self, marker: str, kind: str = "welcome") -> str:
        to = [marker, "often@example.org"] if kind == "often" else [marker]
        if self.bad and self._luck.random() < 0.1:
            to.append(f"fault+{self.bad}@example.org")
        elif self._luck.random() < 0.02:
            to.append(f"fault+{self._luck.choice(BAD)}@example.org")
        return json.dumps(
            {"from": "Shop <hi@shop.example>", "to": to, "subject": "Hello", "html": f"<p>{SECRET}</p>"}
        )

    def _connection(self) -> psycopg.Connection:
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(
                self._url(), application_name=f"app {self.number}", connect_timeout=2
            )
            self._conn.execute(f"set synchronous_commit = {'off' if self._relaxed else 'on'}")
            self._conn.commit()
        return self._conn

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()
