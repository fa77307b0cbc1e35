"""Asks Resend to send one email, and says what came back. One client per sender thread.

`send` makes one request and never raises for trouble on the network: what is not a complete answer is a
`TransportFailure`. It retries nothing and decides nothing; `classify` reads the result. The API key is fetched for
each request, so a new one takes effect at once, and appears in no repr, message or error.
"""

import ssl
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

import certifi
import httpcore

from outboxd.errors import ConfigError
from outboxd.resend.answer import Answer, TransportFailure, one_line
from outboxd.resend.transport import Headers, NoAnswerError, Transport, target

USER_AGENT: Final = f"outboxd/{version('outboxd')}".encode()  # Resend's edge refuses requests without one


class Client:
    """One thread's client, with one connection. `deadline` is for a whole exchange, with connecting where `connect` did not."""

    def __init__(
        self,
        api_url: str,
        api_key: Callable[[], str],
        *,
        deadline: timedelta,
        ssl_context: ssl.SSLContext,
        proxy: str | None = None,
    ) -> None:
        self._url = target(api_url.rstrip("/") + "/emails")
        self._batch_url = target(api_url.rstrip("/") + "/emails/batch")
        self._api_key = api_key
        self._transport = Transport(deadline=deadline, ssl_context=ssl_context, proxy=proxy)
        self._accepted: tuple[str, bytes] | None = (
            None  # the last request's key and body, where it was accepted
        )

    def __repr__(self) -> str:
        return f"Client({self._url.host.decode()})"

    def connect(self) -> None:
        """Be connected, so that the next request leaves at once. What goes wrong is the next request's."""
        self._transport.connect(self._url)

    def connected_in(self) -> float:
        """Seconds that the last `connect` took."""
        return self._transport.connected_in

    def send(self, body: bytes, key: str) -> Answer | TransportFailure:
        """Ask once for one email: `body` is the request as rendered, `key` its idempotency key."""
        return self._post(self._url, body, key)

    def send_batch(self, body: bytes, key: str) -> Answer | TransportFailure:
        """Ask once for all emails of a batch; `key` is the batch's."""
        return self._post(self._batch_url, body, key)

    def _post(self, url: httpcore.URL, body: bytes, key: str) -> Answer | TransportFailure:
        secret = self._api_key()
        if not _fits_a_header(secret):
            return TransportFailure("not_sent", "the API key is empty or holds what no HTTP header can carry")
        try:
            answer = _answer(*self._transport.post(url, _headers(secret, key), body))
        except NoAnswerError as error:
            return self._failure(error, secret)
        return self._crossed(key) if self._repeats(answer, key) else answer

    def _repeats(self, answer: Answer, key: str) -> bool:
        """Whether it is the last request's acceptance once more: ids are fresh, so the connection is out of step."""
        before = self._accepted
        self._accepted = (key, answer.body) if answer.status == HTTPStatus.OK else None
        return (
            before is not None
            and before[1] == answer.body
            and before[0] != key
            and self._accepted is not None
        )

    def _crossed(self, key: str) -> TransportFailure:
        """The answer to `key` is not known; what else lies in the connection is nobody's."""
        self._accepted = None
        self._transport.close()
        return TransportFailure("ambiguous", f"the answer to {key} is that to the request before")

    def asking_for(self) -> float:
        """Seconds that the present request has lasted, 0 where there is none; for any thread."""
        return self._transport.asking_for()

    def close(self) -> None:
        """Close the connection. The client may be used again."""
        self._transport.close()

    def _failure(self, error: NoAnswerError, secret: str) -> TransportFailure:
        text = str(error).replace(secret, "***")
        return TransportFailure("ambiguous" if self._transport.wrote else "not_sent", one_line(text))


def shared_ssl_context(ca_file: str = "") -> ssl.SSLContext:
    """The TLS context for all clients of a process: making one takes 20 ms, sharing it is safe.

    `ca_file` names the certificates to trust instead of the public ones. Raises `ConfigError` if it holds none.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or certifi.where())
    except (OSError, ssl.SSLError) as error:
        reason = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError([f"resend.ca_file: {ca_file}: {reason}"]) from None
    context.set_alpn_protocols(["http/1.1"])  # as httpcore would, for who connects ahead
    return context


def _headers(secret: str, key: str) -> Headers:
    return (
        (b"Authorization", b"Bearer " + secret.encode()),
        (b"Content-Type", b"application/json"),
        (b"User-Agent", USER_AGENT),
        (b"Idempotency-Key", key.encode()),
    )


def _fits_a_header(secret: str) -> bool:
    return secret != "" and secret.isascii() and secret.isprintable() and " " not in secret


def _answer(status: int, headers: Headers, body: bytes) -> Answer:
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    return Answer(status, named, body)
