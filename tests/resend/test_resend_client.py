"""The client against sockets that behave, and that do not."""

import gzip
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpcore
import httpx
import pytest
import trustme
from certificates import SELF_SIGNED
from waiting import until

from outboxd.resend import transport
from outboxd.resend.answer import Answer, TransportFailure
from outboxd.resend.client import Client, shared_ssl_context
from outboxd.resend.network import Exchange
from outboxd.resend.transport import Transport, target

BODY = b'{"to":"ada@reader.example"}'
KEY = "obx1.018f.1"
TEN_SECONDS = timedelta(seconds=10)
ID = b'{"id":"7c1f0a52-3d1e-4b7a-9a51-0d5f2f6b8e10"}'


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def answering(data: bytes) -> Callable:
    """Answers every request of a connection with the same bytes."""

    def script(_peer, connection):
        while connection.read_request():
            connection.send(data)

    return script


def once(data: bytes) -> Callable:
    """Answers one request and closes."""

    def script(_peer, connection):
        connection.read_request()
        connection.send(data)

    return script


def elapsed(client: Client) -> tuple[Answer | TransportFailure, float]:
    began = time.monotonic()
    return client.send(BODY, KEY), time.monotonic() - began


def test_a_request_carries_key_agent_and_authorisation(peer, client_for):
    server = peer(answering(http(ID)))
    client_for(server.url).send(BODY, KEY)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines[1:])}
    assert (lines[0], body) == (b"POST /emails HTTP/1.1", BODY)
    assert headers.pop(b"user-agent").startswith(b"outboxd/")
    assert headers == {
        b"host": b"127.0.0.1:%d" % server.port,
        b"authorization": b"Bearer re_the_secret",
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(BODY),
        b"idempotency-key": KEY.encode(),
        b"accept-encoding": b"identity",
    }


def test_compression_is_never_asked_for(peer):
    server = peer(answering(http(ID)))
    transport = Transport(deadline=TEN_SECONDS, ssl_context=ssl.create_default_context())
    assert transport.post(target(server.url), (), BODY)[::2] == (200, ID)
    transport.close()
    assert server.requests[0].lower().count(b"accept-encoding: identity") == 1
    assert server.requests[0].lower().count(b"accept-encoding") == 1


def test_a_path_in_the_url_is_kept(peer, client_for):
    server = peer(answering(http(ID)))
    client_for(server.url + "/v1/").send(BODY, KEY)
    assert server.requests[0].startswith(b"POST /v1/emails HTTP/1.1\r\n")


def test_an_answer_has_lower_case_headers(peer, client_for):
    server = peer(answering(http(ID, "200 OK", "RateLimit-Limit: 10")))
    answer = client_for(server.url).send(BODY, KEY)
    assert answer.headers["ratelimit-limit"] == "10"
    assert (answer.status, answer.body) == (200, ID)


def test_each_request_asks_for_the_key_anew(peer):
    server = peer(answering(http(ID)))
    secrets = iter(["re_one", "re_two"])
    with_rotation = Client(
        server.url, lambda: next(secrets), deadline=TEN_SECONDS, ssl_context=ssl.create_default_context()
    )
    with_rotation.send(BODY, KEY)
    with_rotation.send(BODY, KEY)
    with_rotation.close()
    assert [b"re_one" in server.requests[0], b"re_two" in server.requests[1]] == [True, True]


@pytest.mark.parametrize("data", [http(ID), chunked(ID), http(b"")], ids=["length", "chunked", "empty"])
def test_one_connection_serves_many_requests(peer, client_for, data):
    server = peer(answering(data))
    client = client_for(server.url)
    assert [client.send(BODY, KEY).status for _ in range(5)] == [200] * 5
    assert server.connections == 1


def test_an_idle_connection_that_the_peer_closed_is_not_used(peer, client_for):
    server = peer(once(http(ID)))
    client = client_for(server.url)
    for _ in range(3):
        assert client.send(BODY, KEY).status == 200
        assert server.ended.acquire(timeout=5)
    assert (server.connections, len(server.requests)) == (3, 3)


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(peer, client_for):
    """Two answers in one segment: the second must not become that of the next email."""
    server = peer(answering(http(b'"mine"') + http(b'"mine"')))
    client = client_for(server.url)
    assert [client.send(BODY, KEY).status for _ in range(2)] == [200, 200]
    assert server.connections == 2


def test_bytes_left_over_drop_the_connection(peer, client_for):
    server = peer(answering(http(ID) + b"HTTP"))
    client = client_for(server.url)
    assert [client.send(BODY, KEY).body for _ in range(2)] == [ID, ID]
    assert server.connections == 2


def test_interim_answers_are_passed_over(peer, client_for):
    server = peer(answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + http(ID)))
    assert client_for(server.url).send(BODY, KEY).body == ID


def test_an_answer_of_http_1_0_ends_with_the_connection(peer, client_for):
    server = peer(once(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + ID))
    assert client_for(server.url).send(BODY, KEY).body == ID


def test_a_redirect_is_an_answer(peer, client_for):
    server = peer(answering(http(b"", "307 Temporary Redirect", "Location: /elsewhere")))
    assert client_for(server.url).send(BODY, KEY).status == 307
    assert len(server.requests) == 1


def test_proxies_of_the_environment_are_ignored(peer, client_for, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = peer(answering(http(ID)))
    assert client_for(server.url).send(BODY, KEY).status == 200


def test_a_compressed_body_stays_as_it_came(peer, client_for):
    bomb = gzip.compress(b"0" * 20_000_000)
    server = peer(answering(http(bomb, "200 OK", "Content-Encoding: gzip")))
    assert client_for(server.url).send(BODY, KEY).body == bomb


def test_an_early_refusal_is_heard_though_the_peer_reads_no_further(peer, client_for):
    def refuse(_peer, connection):
        connection.send(http(b"{}", "413 Content Too Large"))
        connection.hold()

    server = peer(refuse)
    assert client_for(server.url).send(BODY, KEY).status == 413


def test_head_and_body_of_an_email_leave_together(peer, client_for):
    arrived = []

    def note(_peer, connection):
        connection._sock.settimeout(5)
        arrived.append(connection._sock.recv(65536))
        connection.send(http(ID))

    client_for(peer(note).url).send(BODY, KEY)
    assert arrived[0].startswith(b"POST ")
    assert arrived[0].endswith(BODY)


def test_a_body_that_is_too_large_to_leave_with_its_head_arrives_whole(peer, client_for):
    server = peer(answering(http(ID)))
    body = b'{"html":"' + b"x" * 1_000_000 + b'"}'
    assert client_for(server.url).send(body, KEY).status == 200
    assert server.requests[0].endswith(body)


def drip_headers(_peer, connection):
    connection.read_request()
    connection.drip(http(ID, "200 OK", "X-Filler: " + "x" * 1000), 0.05)


def drip_body(_peer, connection):
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    connection.drip(b"x" * 1000, 0.5)


def say_nothing(_peer, connection):
    connection.read_request()
    connection.hold()


def stall(peer, connection):
    """Spends most of the deadline before the first byte: the next wait has only the rest of it."""
    connection.read_request()
    peer.stopped.wait(0.7)
    connection.send(b"HTTP/1.1 200 OK\r\n")
    connection.hold()


def test_no_wait_begins_after_the_deadline():
    with pytest.raises(httpcore.ReadTimeout, match="deadline of 0 s"):
        Exchange(0).left(None, httpcore.ReadTimeout)


@pytest.mark.parametrize("script", [drip_headers, drip_body, stall, say_nothing])
def test_an_exchange_ends_within_its_deadline(peer, client_for, script):
    result, seconds = elapsed(client_for(peer(script).url, seconds=1))
    assert isinstance(result, TransportFailure)
    assert result.kind == "ambiguous"
    assert 0.9 <= seconds < 1.5


def test_a_peer_that_takes_the_body_slowly_gets_no_more_than_the_deadline(peer, client_for):
    def take_slowly(peer, connection):
        while not peer.stopped.wait(0.01):
            connection._sock.recv(1000)

    began = time.monotonic()
    result = client_for(peer(take_slowly).url, seconds=1).send(b" " * 40_000_000, KEY)
    assert result.kind == "ambiguous"
    assert time.monotonic() - began < 5  # and not the 400 s that the body takes at this pace


@pytest.mark.parametrize(
    "address",
    [
        "https://api.resend.com/emails", "http://127.0.0.1:8025/emails", "http://[::1]:80/emails",
        "https://x.example:443/a b/ü?q=1&z=ä", "https://bücher.example/%41", "http://localhost:8025",
        "https://API.Resend.com/v1//emails?x",
    ],
)  # fmt: skip
def test_an_address_travels_as_httpx_would_send_it(address):
    url, ours = httpx.URL(address), target(address)
    assert (ours.scheme, ours.host, ours.port, ours.target) == (
        url.raw_scheme, url.raw_host, url.port, url.raw_path
    )  # fmt: skip


def test_each_request_has_a_deadline_of_its_own(peer, client_for):
    def answer_after_a_while(peer, connection):
        while connection.read_request():
            peer.stopped.wait(0.4)
            connection.send(http(ID))

    client = client_for(peer(answer_after_a_while).url, seconds=1)
    assert [client.send(BODY, KEY).status for _ in range(4)] == [200] * 4


def reset_before_answer(_peer, connection):
    connection.read_request()
    connection.reset()


def reset_in_body(_peer, connection):
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    connection.reset()


def huge_header(_peer, connection):
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000)
    connection.hold()


BROKEN = {
    "reset before answer": reset_before_answer,
    "reset in body": reset_in_body,
    "closed without an answer": once(b""),
    "truncated body": once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    "truncated headers": once(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "garbage": once(b"\x16\x03\x01 what?\r\n\r\n"),
    "broken chunks": once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
    "two lengths": once(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "status below 100": once(b"HTTP/1.1 099 No\r\n\r\n"),
    "huge header": huge_header,
    "huge body": once(http(b"x" * 70_000)),
    "endless interim answers": once(b"HTTP/1.1 102 Processing\r\n\r\n" * 5_000),
}


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    return context


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("ahead", [False, True], ids=["connects", "is connected"])
@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_ambiguous(peer, client_for, script, ahead, tls):
    server = peer(script, tls=server_tls() if tls else None)
    client = client_for(server.url, tls=ssl.create_default_context(cafile=str(SELF_SIGNED)))
    if ahead:
        client.connect()
    result = client.send(BODY, KEY)
    assert server.connections == 1
    assert isinstance(result, TransportFailure)
    assert result.kind == "ambiguous"
    assert result.message.splitlines() == [result.message]


def test_a_client_works_again_after_an_error(peer, client_for):
    def fail_first(peer, connection):
        if peer.connections == 1:
            reset_before_answer(peer, connection)
        else:
            answering(http(ID))(peer, connection)

    client = client_for(peer(fail_first).url)
    assert client.send(BODY, KEY).kind == "ambiguous"
    assert client.send(BODY, KEY).status == 200


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port on 127.0.0.2 whose queue is full: it answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.settimeout(0)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for sock in waiting:
            sock.close()


def test_a_refused_connection_is_not_sent(client_for):
    result = client_for(f"http://127.0.0.1:{closed_port()}").send(BODY, KEY)
    assert isinstance(result, TransportFailure)
    assert (result.kind, "refused" in result.message) == ("not_sent", True)


def test_a_connect_time_out_is_not_sent(client_for, deaf_port):
    result, seconds = elapsed(client_for(f"http://127.0.0.2:{deaf_port}", seconds=0.5))
    assert result.kind == "not_sent"
    assert seconds < 1


def test_an_address_that_swallows_packets_leaves_time_for_the_next(client_for, deaf_port, monkeypatch, peer):
    server = peer(answering(http(ID)))
    resolve = socket.getaddrinfo

    def both(host, port, *args, **kwargs):
        if host != "resend.example":
            return resolve(host, port, *args, **kwargs)
        return resolve("127.0.0.2", port, *args, **kwargs) + resolve("127.0.0.1", port, *args, **kwargs)

    connect = socket.create_connection

    def redirected(address, *args, **kwargs):
        port = deaf_port if address[0] == "127.0.0.2" else server.port
        return connect((address[0], port), *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    monkeypatch.setattr(socket, "create_connection", redirected)
    assert client_for("http://resend.example", seconds=2).send(BODY, KEY).status == 200


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example"])
def test_an_unknown_host_is_not_sent(client_for, host):
    assert client_for(f"http://{host}").send(BODY, KEY).kind == "not_sent"


def test_a_look_up_without_an_answer_ends_within_the_deadline(client_for, monkeypatch):
    stuck, started = threading.Event(), []

    def hang(*_args, **_kwargs):
        started.append(1)
        stuck.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    client = client_for("http://resend.example", seconds=0.2)
    results = [elapsed(client) for _ in range(3)]
    stuck.set()
    assert [result.kind for result, _ in results] == ["not_sent"] * 3
    assert all(seconds < 0.6 for _, seconds in results)
    assert len(started) == 1


def test_tls_with_a_trusted_certificate(peer, client_for):
    server = peer(answering(http(ID)), tls=server_tls())
    client = client_for(server.url, tls=ssl.create_default_context(cafile=str(SELF_SIGNED)))
    assert [client.send(BODY, KEY).body for _ in range(3)] == [ID] * 3
    assert server.connections == 1


def test_a_self_signed_certificate_is_not_sent(peer, client_for):
    server = peer(answering(http(ID)), tls=server_tls())
    result = client_for(server.url, tls=shared_ssl_context()).send(BODY, KEY)
    assert isinstance(result, TransportFailure)
    assert (result.kind, "certificate" in result.message) == ("not_sent", True)
    assert server.requests == []


NOW = datetime.now(UTC)
BAD_TLS = {
    "expired": ({"not_after": NOW - timedelta(days=1)}, ssl.TLSVersion.TLSv1_3, "certificate has expired"),
    "of tomorrow": ({"not_before": NOW + timedelta(days=1)}, ssl.TLSVersion.TLSv1_3, "is this machine's clock right?"),
    "of another host": ({"identities": ("elsewhere.example",)}, ssl.TLSVersion.TLSv1_3, "IP address mismatch"),
    "TLS 1.1 at most": ({}, ssl.TLSVersion.TLSv1_1, "protocol version"),
}  # fmt: skip


@pytest.mark.parametrize(("issued", "newest", "words"), BAD_TLS.values(), ids=list(BAD_TLS))
def test_a_handshake_that_proves_nothing_is_not_sent_and_says_why(peer, client_for, issued, newest, words):
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if newest is ssl.TLSVersion.TLSv1_1:
        server.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is old is what is tried
            server.minimum_version, server.maximum_version = ssl.TLSVersion.TLSv1, newest
    dates = {name: value for name, value in issued.items() if name != "identities"}
    authority.issue_cert(*issued.get("identities", ("127.0.0.1",)), **dates).configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    reached = peer(answering(http(ID)), tls=server)
    result = client_for(reached.url, tls=trusting).send(BODY, KEY)
    assert isinstance(result, TransportFailure)
    assert (result.kind, reached.requests) == ("not_sent", [])
    assert words in result.message


def test_a_peer_without_tls_is_not_sent(peer, client_for):
    def refuse(_peer, connection):
        connection.send(http(b"", "400 Bad Request"))
        connection.hold()

    url = peer(refuse).url.replace("http:", "https:")
    assert client_for(url).send(BODY, KEY).kind == "not_sent"


def test_a_handshake_that_never_ends_is_not_sent(peer, client_for):
    def hold(_peer, connection):
        connection.hold()

    url = peer(hold).url.replace("http:", "https:")
    result, seconds = elapsed(client_for(url, seconds=0.5))
    assert result.kind == "not_sent"
    assert seconds < 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_who_is_connected_asks_through_that_connection(peer, client_for, tls):
    server = peer(answering(http(ID)), tls=server_tls() if tls else None)
    client = client_for(server.url, tls=ssl.create_default_context(cafile=str(SELF_SIGNED)))
    client.connect()
    until(lambda: server.ready == 1, what="the connection, and with TLS its tickets")
    for _ in range(3):
        client.connect()
        assert client.send(BODY, KEY).body == ID
    assert server.connections == 1


def test_a_prepared_connection_that_the_peer_closed_is_not_used(peer, client_for):
    hang_up = threading.Event()

    def script(server, connection):
        if server.connections == 1:
            hang_up.wait(5)
            return
        answering(http(ID))(server, connection)

    server = peer(script)
    client = client_for(server.url)
    client.connect()
    hang_up.set()
    assert server.ended.acquire(timeout=5)
    client.connect()
    assert client.send(BODY, KEY).body == ID
    assert server.connections == 2


def test_a_prepared_connection_that_nobody_took_for_long_is_not_used(peer, client_for, monkeypatch):
    server = peer(answering(http(ID)))
    client = client_for(server.url)
    client.connect()
    monkeypatch.setattr(transport, "KEEP_ALIVE_SECONDS", 0.0)
    client.connect()
    assert client.send(BODY, KEY).body == ID
    assert server.connections == 2


def test_one_that_served_a_while_ago_is_looked_at_and_used_again(peer, client_for, monkeypatch):
    monkeypatch.setattr(transport, "SURELY_OPEN", 0.0)
    server = peer(answering(http(ID)))
    client = client_for(server.url)
    for _ in range(3):
        client.connect()
        assert client.send(BODY, KEY).body == ID
    assert server.connections == 1


@pytest.mark.parametrize("last", [http(ID, "200 OK", "Connection: close"), b"HTTP/1.0 200 OK\r\n\r\n" + ID])
def test_after_an_answer_that_ends_its_connection_the_next_one_is_made_ahead(peer, client_for, last):
    server = peer(once(last))
    client = client_for(server.url)
    for asked in range(3):
        client.connect()
        until(lambda asked=asked: server.ready == asked + 1, what="another connection before the request")
        assert client.send(BODY, KEY).body == ID


@pytest.fixture
def silent_port() -> Iterator[socket.socket]:
    """Bound, so that nobody else gets it, and refusing until it is told to listen."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def test_a_connection_that_failed_is_the_next_request_s_failure(client_for, silent_port):
    client = client_for(f"http://127.0.0.1:{silent_port.getsockname()[1]}")
    client.connect()
    silent_port.listen()
    client.connect()  # so soon that it is no second attempt
    result = client.send(BODY, KEY)
    assert (result.kind, "refused" in result.message) == ("not_sent", True)
    silent_port.settimeout(0)
    with pytest.raises(BlockingIOError):
        silent_port.accept()
    client.connect()
    silent_port.settimeout(5)
    silent_port.accept()[0].close()


def test_a_connection_that_failed_is_not_the_failure_of_a_request_after_one_that_did_not(
    client_for, silent_port, peer, monkeypatch
):
    server = peer(answering(http(ID)))
    client = client_for(f"http://127.0.0.1:{silent_port.getsockname()[1]}")
    client.connect()
    reachable = client_for(server.url)
    monkeypatch.setattr(client, "_url", reachable._url)
    monkeypatch.setattr(transport, "FAILS_FOR", 0.0)
    client.connect()
    assert client.send(BODY, KEY).body == ID
    assert client.connected_in() > 0


def test_who_connects_ahead_gets_four_seconds_at_most(peer, client_for, monkeypatch):
    def hold(_peer, connection):
        connection.hold()

    monkeypatch.setattr(transport, "AHEAD_SECONDS", 0.3)
    client = client_for(peer(hold).url.replace("http:", "https:"))
    began = time.monotonic()
    client.connect()
    assert time.monotonic() - began < 2
    assert client.send(BODY, KEY).kind == "not_sent"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("secret", ["", "re_the_secret\r\nX: y", "re_thé_secret", "re the secret"])
def test_a_key_that_no_header_can_carry_is_not_sent_and_not_told(peer, client_for, secret):
    server = peer(answering(http(ID)))
    result = client_for(server.url, secret=secret).send(BODY, KEY)
    assert isinstance(result, TransportFailure)
    assert (result.kind, "re_th" in result.message) == ("not_sent", False)
    assert server.connections == 0


def test_the_key_appears_in_no_repr(client_for):
    client = client_for("http://127.0.0.1:1")
    assert "secret" not in repr(client)
    assert "secret" not in repr(client.send(BODY, KEY))


def test_the_answer_before_is_not_taken_for_the_next_requests(peer, client_for):
    """A connection that says an answer twice is out of step: every answer on it belongs to the request before."""
    client = client_for(peer(answering(http(ID))).url)
    assert isinstance(client.send(BODY, "obx1.a.1"), Answer)
    failed = client.send(BODY, "obx1.b.1")
    assert failed == TransportFailure("ambiguous", "the answer to obx1.b.1 is that to the request before")
    assert isinstance(client.send(BODY, "obx1.b.1"), Answer)


def test_a_replay_of_the_same_request_is_an_answer(peer, client_for):
    server = peer(answering(http(ID)))
    client = client_for(server.url)
    assert client.send(BODY, KEY) == client.send(BODY, KEY)
    assert server.connections == 1


def test_the_same_refusal_twice_is_an_answer(peer, client_for):
    client = client_for(peer(answering(http(b'{"name":"validation_error"}', "422 Unprocessable"))).url)
    assert client.send(BODY, "obx1.a.1") == client.send(BODY, "obx1.b.1")
