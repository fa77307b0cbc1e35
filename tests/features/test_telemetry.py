"""Logs without a single address, key or detail; loops that survive their rounds; probes that answer."""

import io
import json
import logging
import threading
from datetime import timedelta
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
import pytest
from factories import insert
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from outboxd import telemetry
from outboxd.loop import every, spawn
from outboxd.telemetry import JsonFormatter, TextFormatter, redact, span_for_ask
from outboxd.web.health import Report, start_health


@pytest.mark.parametrize(
    "secret",
    [
        "re_0123456789abc",
        "whsec_AAECAwQFBgc=",
        "ada@example.org",
        "postgresql://u:hunter2@h/d",
        "failed\nDETAIL: Key (k)=(ada) exists.",
    ],
)
def test_what_is_private_is_redacted(secret):
    shown = redact(f"x {secret}\ny")
    assert not [part for part in ("re_0123", "whsec_AAE", "ada@", "hunter2", "(ada)") if part in shown]


def test_a_span_has_the_name_of_an_exception_and_not_what_it_says(monkeypatch):
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry.trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(telemetry.trace, "get_tracer", provider.get_tracer)
    with pytest.raises(KeyError), span_for_ask("{}", queue="marketing", uid="u-1", attempt=2):
        raise KeyError("ada@example.org")
    (span,) = spans.get_finished_spans()
    assert span.name == "process marketing"
    assert span.attributes["messaging.message.id"] == "u-1"
    assert not span.status.is_ok
    assert "KeyError" in span.to_json()
    assert "ada@" not in span.to_json()  # the instance has a random id, which may spell a name


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_of_postgres_leaks_no_value(conn, formatter):
    out = io.StringIO()
    log = logging.getLogger("test.leak")
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    log.addHandler(handler)
    insert(conn, dedupe_key="k")
    try:
        conn.execute("insert into outboxd.dedupe values ('', 'k', 99)")
    except psycopg.Error:
        log.exception("failed for ada@example.org", extra={"uid": "7", "note": "re_0123456789 \x1b[31m"})
    assert "(k)" not in out.getvalue()
    assert "ada@" not in out.getvalue()
    assert "re_0123" not in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_json_line_is_json_with_its_extra_fields():
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "said %s", "args": ("it",), "uid": "7", "count": 3}
    )
    line = json.loads(JsonFormatter().format(record))
    assert (line["event"], line["uid"], line["count"], line["level"]) == ("said it", "7", 3, "info")


def test_a_round_that_fails_does_not_end_its_loop():
    stop, rounds = threading.Event(), []

    def work():
        rounds.append(1)
        if len(rounds) == 3:
            stop.set()
        raise RuntimeError("a bad round")

    every(timedelta(milliseconds=1), work, stop, name="test")
    assert len(rounds) == 3


class Pauses(threading.Event):
    """Notes how long it is waited for, and ends the waiting after eight times."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        if len(self.seconds) == 8:
            self.set()
        return self.is_set()


@pytest.mark.parametrize(("interval", "longest"), [(0.9, 3.6), (5.0, 20.0), (10.0, 30.0), (60.0, 60.0)])
def test_rounds_that_fail_are_tried_again_within_a_few_intervals(interval, longest):
    stop = Pauses()
    every(timedelta(seconds=interval), lambda: 1 / 0, stop, name="test")
    assert stop.seconds[0] == min(2 * interval, longest)
    assert stop.seconds[-1] == longest


def test_a_thread_that_dies_is_reported_by_name():
    died, told = threading.Event(), []

    def on_crash(name):
        told.append(name)
        died.set()

    spawn("worker", lambda: 1 / 0, on_crash)
    assert died.wait(5)
    assert told == ["worker"]


def ask(address, path):
    try:
        with urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_probes_tell_alive_and_ready_apart():
    health = start_health(
        "127.0.0.1:0", lambda: Report(ok=True), lambda: Report(ok=False, problems=["no database"])
    )
    try:
        assert ask(health.address, "/livez")[0] == 200
        status, body = ask(health.address, "/readyz")
        assert (status, body["problems"]) == (503, ["no database"])
        again = start_health(
            f"{health.address[0]}:{health.address[1]}", lambda: Report(ok=True), lambda: Report(ok=True)
        )
        assert again.address is None
    finally:
        health.stop()
