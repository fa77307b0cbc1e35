"""A client for one sender thread: one request, one answer, never an exception for the network's sake.

Clients share one TLS context and nothing else: a pool shared by threads gets slower with each of them.
"""

import ssl
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import httpcore
import httpx

from outboxd.resend.answer import Answer, TransportFailure
from outboxd.resend.transport import Transport

NETWORK = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.PoolTimeout,
    OSError,
)


def shared_ssl_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """The TLS context of all clients: the system's or the given authorities, TLS 1.2 at least."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Client:
    """`POST /emails`, for one thread. `api_key` is asked for at each request, so that a rotated key is used at once."""

    def __init__(
        self,
        api_url: str,
        api_key: Callable[[], str],
        *,
        deadline: timedelta,
        ssl_context: ssl.SSLContext,
    ) -> None:
        self._url = httpx.URL(f"{api_url}/emails")
        self._api_key = api_key
        self._transport = Transport(ssl_context, deadline=deadline.total_seconds())
        self._agent = f"outboxd/{version('outboxd')}"

    def send(self, body: bytes, key: str) -> Answer | TransportFailure:
        """Ask once. The answer may be anything; a failure says whether the request may have been seen."""
        try:
            response = self._transport.handle_request(self._request(body, key))
        except NETWORK as error:
            return TransportFailure(
                "ambiguous" if self._transport.budget.wrote else "not_sent", _reason(error)
            )
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, response.content)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _request(self, body: bytes, key: str) -> httpx.Request:
        headers = {
            "Authorization": f"Bearer {self._api_key()}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": self._agent,
            "Idempotency-Key": key,
        }
        return httpx.Request("POST", self._url, headers=headers, content=body)


def _reason(error: Exception) -> str:
    """The kind of error, and its text if that is the system's own."""
    name = type(error).__name__
    text = str(error).splitlines()[0][:200] if str(error) else ""
    return f"{name}: {text}" if text else name
