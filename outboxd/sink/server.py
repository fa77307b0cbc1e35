"""Run the local Resend: in a thread for tests and demo, in the foreground for `outboxd sink`."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn

from outboxd.errors import OutboxdError
from outboxd.sink.app import Sink
from outboxd.sink.options import SinkOptions
from outboxd.sink.provider import Provider

GRACE = 1  # seconds for open requests when it stops


@dataclass(frozen=True, slots=True)
class Running:
    """A sink that accepts requests at `url`."""

    url: str
    provider: Provider


def serve(options: SinkOptions, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    sink, bound = Sink(options), _bind(options)
    on_ready(_url(bound))
    _server(sink).run(sockets=[bound])


@contextlib.contextmanager
def running_sink(options: SinkOptions) -> Iterator[Running]:
    """A sink in a thread of its own; port 0 takes a free one."""
    sink, bound = Sink(options), _bind(options)
    server = _server(sink)
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), name="sink", daemon=True)
    thread.start()
    try:
        yield Running(_url(bound), sink.provider)
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(5.0)
        bound.close()


def _server(sink: Sink) -> uvicorn.Server:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # faults that cut connections are no errors
    config = uvicorn.Config(
        sink, log_config=None, access_log=False, lifespan="off", loop="asyncio", http="h11", ws="none",
        timeout_graceful_shutdown=GRACE, timeout_keep_alive=75, backlog=512,
    )  # fmt: skip
    return uvicorn.Server(config)


def _bind(options: SinkOptions) -> socket.socket:
    try:
        bound = socket.create_server((options.host, options.port), backlog=512)
    except OSError as error:
        where = f"{options.host}:{options.port}"
        raise OutboxdError(f"cannot listen on {where} ({error.strerror}): choose another --port") from None
    # What it accepts inherits this; asyncio sets it only where the socket names its protocol, and without it the body,
    # written after the head, waits for the reader's delayed acknowledgement: 40 ms of each answer.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://{host}:{port}"
