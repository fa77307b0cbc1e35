"""What the network's faults do: each counts as a strike only where it acts, and does what its name says."""

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from factories import payload

from outboxd.core.outcome import Ambiguous, Sent
from outboxd.resend.classify import classify
from outboxd.resend.client import Client, shared_ssl_context
from outboxd.sink.options import SinkOptions
from outboxd.sink.server import running_sink

from .proxy import Proxies
from .toxics import Cut, HalfShut, Shut, Silence, Spell

NOW = datetime(2026, 11, 27, tzinfo=UTC)
ORDERS = (Cut, HalfShut, Shut, Silence)


class Met:
    """What one spell let pass of some chunks, and how it ended."""

    def __init__(
        self, kind: str, chunks: list[tuple[bytes, bool]], *, side: str = "esp", level: int = 1
    ) -> None:
        self.struck: list[str] = []
        self.passed: list[bytes] = []
        self.end: Exception | None = None
        self.spell = Spell(kind, side, level, random.Random(1), on_strike=self.struck.append)
        asyncio.run(self._pass(chunks))

    async def _pass(self, chunks: list[tuple[bytes, bool]]) -> None:
        try:
            for chunk, from_server in chunks:
                async for piece in self.spell.spoil(chunk, from_server=from_server):
                    self.passed.append(piece)
        except ORDERS as end:
            self.end = end


ASK, ANSWER = (b"a" * 100, False), (b"b" * 100, True)


@pytest.mark.parametrize("kind", ["half_close", "drop_after_n_bytes", "limit_data", "rst_on_nth", "timeout"])
def test_a_fault_ends_a_connection_in_its_own_way(kind):
    met = Met(kind, [ASK, ANSWER] * 500)
    assert met.struck == [kind]
    how = {
        "half_close": HalfShut, "drop_after_n_bytes": Silence, "limit_data": Shut, "rst_on_nth": Cut, "timeout": Silence,
    }  # fmt: skip
    assert type(met.end) is how[kind]


def test_a_limit_of_data_passes_exactly_that():
    assert len(b"".join(Met("limit_data", [ASK, ANSWER, (b"c" * 9000, True)]).passed)) == 4000


@pytest.mark.parametrize("kind", ["pause_resume", "slow_close", "mid_commit_cut", "duplicate_chunk"])
def test_what_has_not_acted_has_not_struck(kind):
    met = Met(kind, [(b"a", False)])
    assert (met.struck, met.passed, met.end) == ([], [b"a"], None)


def test_only_the_first_byte_of_an_answer_is_late():
    met = Met("delay_first_byte", [ASK], side="pg")
    assert met.struck == []
    assert Met("delay_first_byte", [ASK, ASK, ANSWER], side="pg").struck == ["delay_first_byte"]


def test_an_answer_is_said_twice_before_the_provider_and_never_by_postgres():
    met = Met("duplicate_chunk", [ASK, *[ANSWER] * 20], level=2)
    assert (met.struck, met.end) == (["duplicate_chunk"], None)
    assert 20 < len(met.passed[1:]) < 40
    of_pg = [
        Met(kind, [ASK, ASK, ANSWER], side="pg") for kind in ("corrupt_byte", "duplicate_chunk", "swap_order")
    ]
    assert [[len(piece) for piece in met.passed[2:]] for met in of_pg] == [[50], [100, 5], [5]]
    assert {type(met.end) for met in of_pg} == {Cut}


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    made = Proxies(1)
    yield made
    made.close()


def test_a_refused_port_has_struck_once_somebody_was_refused(proxies):
    gate = proxies.gate("esp", ("127.0.0.1", 1), lambda _: False)
    proxies.begin("esp", "syn_refuse", 3)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gate.port), timeout=2)
    assert proxies.met("esp", "syn_refuse") == 1


def test_half_of_a_connection_is_closed_and_the_other_half_lasts(proxies):
    with socket.create_server(("127.0.0.1", 0)) as server:
        gate = proxies.gate("esp", server.getsockname(), lambda _: False)
        proxies.begin("esp", "half_close", 3)
        with (
            socket.create_connection(("127.0.0.1", gate.port), timeout=5) as client,
            server.accept()[0] as there,
        ):
            there.settimeout(5)
            for _ in range(200):
                there.sendall(b"x")
                if client.recv(1) == b"":
                    break
            client.sendall(b"still here")
            assert there.makefile("rb").read(10) == b"still here"


def test_an_answer_that_came_twice_is_never_the_next_email_s(proxies):
    with running_sink(SinkOptions(port=0, rate_limit=None)) as running:
        host, port = running.url.removeprefix("http://").split(":")
        gate = proxies.gate("esp", (host, int(port)), lambda _: False)
        proxies.begin("esp", "duplicate_chunk", 2)
        client = Client(
            f"http://127.0.0.1:{gate.port}", lambda: "re_x", deadline=timedelta(seconds=5),
            ssl_context=shared_ssl_context(),
        )  # fmt: skip
        ids = {}
        for n in range(60):
            answer = client.send(json.dumps(payload(to=f"u{n}@example.org")).encode(), f"k{n}")
            outcome = classify(answer, now=NOW)
            assert isinstance(outcome, Sent | Ambiguous)
            if isinstance(outcome, Sent):
                ids[f"k{n}"] = outcome.provider_id
        client.close()
        known = {entry.key: entry.provider_id for entry in running.provider.entries}
    assert ids
    assert ids.items() <= known.items()
    assert proxies.met("esp", "duplicate_chunk") > 0
