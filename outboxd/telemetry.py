"""Logs and traces. No address, subject, body or secret is ever in them, whatever an exception says.

Logs go to systemd's journal where it listens, else to standard error, as text on a terminal and as JSON lines
elsewhere. A closed standard error stops nothing. Traces and metrics leave only where `OTEL_EXPORTER_OTLP_ENDPOINT` (or its siblings) is set and the `otlp` extra is installed.
"""

import contextlib
import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, Final

from opentelemetry import metrics, propagate, trace

from outboxd.config import Log, environment
from outboxd.journal import Journal, field_name, is_stream

log = logging.getLogger(__name__)

LONGEST: Final = 2000  # characters of one value
STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
PRIVATE: Final = re.compile(
    r"re_[A-Za-z0-9_]{8,}|whsec_[A-Za-z0-9+/=]{8,}|[^\s<>\"'(),:;@]+@[^\s<>\"'(),:;@]+\.[^\s<>\"'(),:;@]+"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
DETAIL: Final = re.compile(r"^(DETAIL|CONTEXT|LINE \d+|QUERY):.*$", re.MULTILINE)


def redact(text: str) -> str:
    """Without keys, addresses, credentials, Postgres's DETAIL lines and control characters; at most 2,000 characters."""
    cleaned = PRIVATE.sub("***", DETAIL.sub("", text))
    printable = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in cleaned)
    return printable[:LONGEST].strip()


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, event, and the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redact(record.getMessage()),
            **_extra(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _exception(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """For people: time, level, event, key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the exception's on the following ones."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        extra = "".join(f" {key}={value}" for key, value in _extra(record).items())
        text = f"{clock} {record.levelname.lower():7} {redact(record.getMessage())}{extra}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + _exception(record.exc_info[1])
        return text


def _extra(record: logging.LogRecord) -> Mapping[str, Any]:
    found = {key: value for key, value in vars(record).items() if key not in STANDARD}
    return {k: v if isinstance(v, int | float | bool | None) else redact(str(v)) for k, v in found.items()}


def _exception(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__)[-8:])
    return redact(f"{frames}{type(error).__name__}: {error}")


class _Handler(logging.StreamHandler[Any]):
    """Drops a line that cannot be written: a closed pipe or a full disk must not stop the sending."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: there is nowhere to say it."""


class JournalHandler(logging.Handler):
    """One entry per record, its extra fields as fields of the entry."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Send it."""
        extra = {key: str(value) for key, value in _extra(record).items()}
        event = redact(record.getMessage())
        fields = {
            "MESSAGE": " ".join([event, *(f"{key}={value}" for key, value in extra.items())]),
            "PRIORITY": str(_priority(record.levelno)),
            "SYSLOG_IDENTIFIER": "outboxd",
            "OUTBOXD_EVENT": event,
            "OUTBOXD_LOGGER": record.name,
            **{field_name(key): value for key, value in extra.items()},
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["OUTBOXD_EXCEPTION"] = _exception(record.exc_info[1])
            fields["MESSAGE"] += "\n" + fields["OUTBOXD_EXCEPTION"]
        self._journal.send(fields)


def _priority(level: int) -> int:
    """Syslog's number: 3 error, 4 warning, 6 information, 7 debug."""
    steps = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((number for least, number in steps if level >= least), 7)


def _handler(form: str) -> logging.Handler:
    if form == "journal" or (form == "auto" and is_stream(environment(), 2)):
        return JournalHandler(Journal())
    handler = _Handler(sys.stderr)
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if readable else JsonFormatter())
    return handler


def start(config: Log) -> None:
    """Set up logs, and traces and metrics where the environment asks for them."""
    handler = _handler(config.format)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    for noisy in ("httpcore", "httpx", "uvicorn", "asyncio", "alembic", "psycopg"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if any(name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("ENDPOINT") for name in environment()):
        _export()


def _export() -> None:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 - an extra
            OTLPMetricExporter,
        )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but the extra is missing: pip install outboxd[otlp]")
        return
    tracer = TracerProvider()
    tracer.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=2)))
    trace.set_tracer_provider(tracer)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(timeout=2))]))


def shutdown(*, within: float = 2.0) -> None:
    """Flush what is left; a dead collector costs at most `within` seconds."""
    providers = [trace.get_tracer_provider(), metrics.get_meter_provider()]
    closing = [provider.shutdown for provider in providers if hasattr(provider, "shutdown")]
    thread = threading.Thread(target=lambda: [close() for close in closing], daemon=True)
    thread.start()
    thread.join(within)


@contextlib.contextmanager
def span_for_ask(carrier: str | None, *, queue: str, uid: str, attempt: int) -> Iterator[None]:
    """A span around one request, linked to the transaction that inserted the email.

    Of an exception it has the name only: what one says may have an address in it.
    """
    tracer = trace.get_tracer("outboxd")
    if not trace.get_tracer_provider().__class__.__module__.startswith("opentelemetry.sdk"):
        yield
        return
    attributes: dict[str, str | int] = {
        "messaging.system": "outboxd",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
        "messaging.message.id": uid,
        "http.request.resend_count": attempt - 1,
    }
    with tracer.start_as_current_span(
        f"process {queue}", kind=trace.SpanKind.CONSUMER, attributes=attributes, links=_links(carrier),
        record_exception=False, set_status_on_exception=False,
    ) as span:  # fmt: skip
        try:
            yield
        except Exception as error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise


def _links(carrier: str | None) -> list[trace.Link]:
    try:
        values = json.loads(carrier or "{}")
        context = trace.get_current_span(propagate.extract(values)).get_span_context()
    except (ValueError, TypeError, AttributeError):
        return []
    return [trace.Link(context)] if context.is_valid else []
