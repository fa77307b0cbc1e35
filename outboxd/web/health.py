"""`/livez` and `/readyz`: whether the daemon should be restarted, and whether it sends.

On a listener of its own, in a thread of its own. A port that is in use costs a warning, not the daemon.
"""

import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe hears: `problems` says why `ok` is False."""

    ok: bool
    problems: list[str] = field(default_factory=list)
    detail: Mapping[str, object] = field(default_factory=dict)


class Health:
    """The running listener; `address` is None where there is none."""

    def __init__(
        self, stop: Callable[[], None] | None = None, address: tuple[str, int] | None = None
    ) -> None:
        self._stop = stop
        self.address = address

    def stop(self) -> None:
        """Close the listener."""
        if self._stop:
            self._stop()


def start_health(listen: str, live: Callable[[], Report], ready: Callable[[], Report]) -> Health:
    """Answer probes on `listen` ("address:port", "" for nowhere) until stopped."""
    if not listen:
        return Health()
    host, _, port = listen.rpartition(":")
    try:
        bound = socket.create_server((host.strip("[]"), int(port)), reuse_port=False)
    except OSError as error:
        log.warning("health listener not started", extra={"listen": listen, "reason": error.strerror})
        return Health()
    # What it accepts inherits this; without it a kept connection's answers wait 40 ms for the prober's acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _serve(bound, live, ready)


def _serve(bound: socket.socket, live: Callable[[], Report], ready: Callable[[], Report]) -> Health:
    import uvicorn  # noqa: PLC0415 - only where there is a listener
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    def route(path: str, probe: Callable[[], Report]) -> Route:
        async def answer(_request: Request) -> Response:
            report = probe()
            body = {"status": "ok" if report.ok else "failing", "problems": report.problems, **report.detail}
            return Response(json.dumps(body), 200 if report.ok else 503, media_type="application/json")

        return Route(path, answer)

    app = Starlette(routes=[route("/livez", live), route("/readyz", ready)])
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", loop="asyncio", http="h11", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), name="health", daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join(2.0)
        bound.close()

    address = bound.getsockname()
    return Health(stop, (address[0], address[1]))
