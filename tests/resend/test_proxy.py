"""Through an HTTP proxy, and under a certificate of one's own."""

import base64
import contextlib
import select
import socket
import ssl
import threading
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from certificates import SECRET, SELF_SIGNED

from outboxd import daemon
from outboxd.config import load
from outboxd.errors import ConfigError
from outboxd.reload import Live
from outboxd.resend.answer import Answer, TransportFailure
from outboxd.resend.client import Client, shared_ssl_context

ACCEPTED = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"id":"e1"}'
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy:
    """Answers CONNECT with `answer`; where that is a 200, passes bytes on both ways."""

    def __init__(self, answer: bytes = TUNNEL) -> None:
        self.heads: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.stopped = threading.Event()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            self.heads.append(head)
            client.sendall(self._answer)
            if self._answer.startswith(b"HTTP/1.1 200"):
                host, _, port = head.split(b" ")[1].decode().rpartition(":")
                with socket.create_connection((host, int(port))) as server:
                    self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while not self.stopped.is_set():
            for one in select.select([client, server], [], [], 0.05)[0]:
                data = one.recv(65536)
                if not data:
                    return
                (server if one is client else client).sendall(data)


@pytest.fixture
def proxy():
    with contextlib.ExitStack() as started:

        def start(answer: bytes = TUNNEL) -> ConnectProxy:
            new = ConnectProxy(answer)
            started.callback(new.stop)
            return new

        yield start


@pytest.fixture
def server(peer):
    """A provider under TLS, with the test's own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)

    def accept(_peer, connection) -> None:
        while connection.read_request() is not None:
            connection.send(ACCEPTED)

    return peer(accept, tls=context)


@pytest.fixture
def client():
    with contextlib.ExitStack() as opened:

        def make(url: str, proxy: str, ca_file: str = str(SELF_SIGNED), seconds: float = 5) -> Client:
            made = Client(
                url,
                lambda: SECRET,
                deadline=timedelta(seconds=seconds),
                ssl_context=shared_ssl_context(ca_file),
                proxy=proxy,
            )
            opened.callback(made.close)
            return made

        yield make


def test_requests_go_through_one_tunnel_and_the_proxy_sees_neither_key_nor_email(proxy, server, client):
    through = proxy()
    one = client(server.url, f"http://{through.address}")
    for _ in range(3):
        answer = one.send(b'{"to":"ada@example.org"}', "k")
        assert isinstance(answer, Answer)
        assert answer.status == 200
    (head,) = through.heads
    assert head.startswith(f"CONNECT {urlsplit(server.url).netloc} HTTP/1.1".encode())
    assert SECRET.encode() not in head
    assert len(server.requests) == 3
    assert server.connections == 1


def test_the_proxys_credentials_are_sent_to_the_proxy_only(proxy, server, client):
    through = proxy()
    assert isinstance(client(server.url, f"http://u:p%40ss@{through.address}").send(b"{}", "k"), Answer)
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"u:p@ss") in through.heads[0]
    assert b"roxy-" not in server.requests[0]


@pytest.mark.parametrize(
    "status", [b"407 Proxy Authentication Required", b"502 Bad Gateway", b"403 Forbidden"]
)
def test_what_a_proxy_refuses_was_certainly_not_sent(proxy, server, client, status):
    refusing = proxy(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    failure = client(server.url, f"http://u:secret@{refusing.address}").send(b"{}", "k")
    assert isinstance(failure, TransportFailure)
    assert failure.kind == "not_sent"
    assert status[:3].decode() in failure.message
    assert "secret" not in failure.message


def test_a_proxy_that_says_nothing_or_is_not_there_was_certainly_not_a_send(proxy, server, client):
    silent = proxy(b"")
    assert client(server.url, f"http://{silent.address}", seconds=0.5).send(b"{}", "k").kind == "not_sent"
    assert client(server.url, "http://127.0.0.1:9", seconds=2).send(b"{}", "k").kind == "not_sent"


def test_a_cut_behind_the_tunnel_is_ambiguous(proxy, peer, client):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    cutting = peer(lambda _peer, connection: connection.read_request(), tls=context)
    failure = client(cutting.url, f"http://{proxy().address}").send(b"{}", "k")
    assert isinstance(failure, TransportFailure)
    assert failure.kind == "ambiguous"


def test_only_the_certificates_of_the_file_are_trusted(proxy, server, client):
    failure = client(server.url, f"http://{proxy().address}", ca_file="").send(b"{}", "k")
    assert isinstance(failure, TransportFailure)
    assert failure.kind == "not_sent"
    assert "CERTIFICATE_VERIFY_FAILED" in failure.message


def test_a_certificate_file_that_is_none_is_a_mistake_of_the_configuration(tmp_path):
    (tmp_path / "empty.pem").write_text("")
    for name, what in (("empty.pem", "no certificate"), ("missing.pem", "No such file")):
        with pytest.raises(ConfigError, match=what):
            shared_ssl_context(str(tmp_path / name))


def test_the_environments_proxies_are_not_used(server, client, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert isinstance(client(server.url, "").send(b"{}", "k"), Answer)


def test_the_daemon_takes_proxy_and_certificates_from_its_configuration(proxy, server):
    through = proxy()
    environ = {
        "RESEND_API_KEY": SECRET,
        "RESEND_API_URL": server.url,
        "OUTBOXD_RESEND__PROXY": f"http://{through.address}",
        "OUTBOXD_RESEND__CA_FILE": str(SELF_SIGNED),
    }
    config = load(None, environ)
    one = daemon._client(Live(config, lambda: config), shared_ssl_context(config.resend.ca_file))
    assert isinstance(one.send(b"{}", "k"), Answer)
    one.close()
    assert len(through.heads) == 1


@pytest.mark.parametrize(
    "address", ["https://proxy.example:3128", "proxy.example:3128", "http://u:secret@proxy.example"]
)
def test_a_proxy_that_is_none_is_a_mistake_that_shows_no_secret(address):
    with pytest.raises(ConfigError, match=r"resend\.proxy: must look like") as caught:
        load(None, {"OUTBOXD_RESEND__PROXY": address})
    assert "secret@" not in str(caught.value)
