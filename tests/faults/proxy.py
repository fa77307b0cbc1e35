"""TCP proxies before Postgres and before the provider, one pair for each daemon, in one thread.

Beside faults they know the points of the path as the wire shows them: a claim's commit, its answer, a request's first
bytes, its answer, a settle. `on_point` hears of each; where it answers true the daemon was killed, and nothing of the
rest passes. A claim of single emails has no COMMIT: it is its pipeline's own transaction, which ends with the Sync.
"""

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .toxics import AT_ACCEPT, COMMITS, COMMITTED, Cut, HalfShut, Shut, Silence, Spell

MOST = 3  # the level at which a fault is everywhere
NAME = b"application_name\x00outboxd "
VERBS = {"claimer": "claim", "binder": "bind", "settler": "settle", "reclaimer": "reclaim"}
LEASES = re.compile(
    rb"P.{4}([^\0]*)\0[^\0]*insert into outboxd\.lease\b", re.DOTALL
)  # Parse: a statement's name
KEYS = re.compile(rb"(?i)\r\nidempotency-key: *([^\r]+)\r\n")
SYNC, READY, IN_TRANSACTION = b"S\x00\x00\x00\x04", b"Z\x00\x00\x00\x05I", b"Z\x00\x00\x00\x05T"
TOO_MANY = b"C53300\x00"  # in an error
NOTHING = b"SELECT 0\x00"  # what a claim says that took nothing


@dataclass(slots=True)
class Network:
    """What all proxies share: luck, and how often each kind struck on each side."""

    luck: random.Random
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    crowded_out: int = 0  # sessions of daemons for which the server had no connection left

    def spell(self, side: str, kind: str, level: int) -> Spell:
        """The fault of one connection."""
        luck = random.Random(self.luck.random())
        return Spell(kind, side, level, luck, on_strike=lambda name: self.struck.update([(side, name)]))


class Proxies:
    """The thread with its loop; `gate` opens a port."""

    def __init__(self, seed: int) -> None:
        self.network = Network(random.Random(seed))
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self.gates: list[Gate] = []
        self._refused = 0

    def gate(self, side: str, target: tuple[str, int] | str, on_point: Callable[[str], bool]) -> "Gate":
        """A listener before the target: a host and port, or the path of a Unix socket."""
        gate = Gate(side, target, on_point, self.network)
        self._do(gate.open())
        self.gates.append(gate)
        return gate

    def begin(self, side: str, kind: str, level: int) -> frozenset[str]:
        """Some daemons' connections of this side meet the fault from now on, at level 3 all; open ones meet it too. Whose."""
        gates = [gate for gate in self.gates if gate.side == side]
        self._refused = refused_connects()
        hit = gates if level == MOST else self.network.luck.sample(gates, -(-len(gates) // 2))
        for gate in hit:
            gate.toxic = (kind, level)
            if kind == "syn_refuse":
                self._do(gate.shut())
            elif kind in AT_ACCEPT:
                self._do(gate.cut_all())
        return frozenset(gate.owner for gate in hit)

    def met(self, side: str, kind: str) -> int:
        """How many connections met this kind; where nobody listens, whether any was refused since it began."""
        if kind == "syn_refuse" and refused_connects() > self._refused:
            self.network.struck[side, kind] += 1
        return self.network.struck[side, kind]

    def end(self, side: str) -> None:
        """Heal: what hangs is reset."""
        for gate in self.gates:
            if gate.side == side and gate.toxic is not None:
                refuses, gate.toxic = gate.toxic[0] == "syn_refuse", None
                self._do(gate.open() if refuses else gate.cut_spoiled())

    def close(self) -> None:
        for gate in self.gates:
            self._do(gate.shut())
        self._do(_end_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    def _do(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(10)


async def _end_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Gate:
    """One port. `session` names of the daemon's connections are read from their greeting."""

    def __init__(
        self, side: str, target: tuple[str, int] | str, on_point: Callable[[str], bool], net: Network
    ):
        self.side = side
        self.port = 0
        self.owner = ""  # which daemon's, as its moves name it
        self.keys: list[tuple[float, str]] = []  # of the requests that passed, and when
        self.toxic: tuple[str, int] | None = None
        self.target, self._on_point, self._net = target, on_point, net
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, Spell | None] = {}

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut_all()

    async def cut_all(self) -> None:
        for writer in list(self._open):
            reset(writer)

    async def cut_spoiled(self) -> None:
        for writer, spell in list(self._open.items()):
            if spell is not None:
                reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spell = None if self.toxic is None else self._net.spell(self.side, *self.toxic)
        self._open[writer] = spell
        upstream: asyncio.StreamWriter | None = None
        try:
            if self.side == "esp":
                self.meet("ask_connect")
            if spell is not None and spell.kind in AT_ACCEPT:
                await self._turn_away(spell, reader, writer)
            answers, upstream = await self._connect()
            await Link(self, reader, writer, answers, upstream).run()
        except Shut:
            pass
        except (Cut, OSError, asyncio.CancelledError):
            reset(writer)
        finally:
            self._open.pop(writer, None)
            for one in (writer, upstream):
                if one is not None:
                    one.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)

    async def _turn_away(
        self, spell: Spell, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        spell.strike()
        if spell.kind in {"accept_never_read", "blackhole"}:
            if spell.kind == "blackhole":
                with contextlib.suppress(OSError):
                    while await reader.read(65536):
                        pass
            await asyncio.sleep(3600 if not writer.is_closing() else 0)
        if spell.kind == "tls_garbage":
            writer.write(b"\x15\x03\x01\x00\x02\x02\x46" * 3)
            await writer.drain()
        raise Shut

    def spell(self, writer: asyncio.StreamWriter) -> Spell | None:
        """What is wrong with this connection now; a fault that begins meets it too."""
        found = self._open.get(writer)
        if found is None and self.toxic is not None and self.toxic[0] not in AT_ACCEPT:
            found = self._open[writer] = self._net.spell(self.side, *self.toxic)
            found.chunks = 1  # its handshake is over
        return found

    def note_crowd(self) -> None:
        """The server had no connection left for a session."""
        self._net.crowded_out += 1

    def meet(self, point: str) -> None:
        """A point of the path. Raises `Cut` where the daemon was killed here."""
        if self._on_point(point):
            raise Cut


class Link:
    """One connection through the proxy, both ways."""

    def __init__(self, gate, reader, writer, answers, upstream) -> None:
        self.gate = gate
        self._reader, self._writer, self._answers, self._upstream = reader, writer, answers, upstream
        self._session = ""
        self._committed = b""  # what the server will say once it is committed
        self._at_commit = False  # whether what passes now commits, or says so
        self._claims: set[bytes] = set()  # names of prepared statements
        self._leases = False  # whether what is under way takes a lease
        self._in_transaction = False  # that began with a BEGIN

    async def run(self) -> None:
        ways = [
            asyncio.ensure_future(self._pump(self._reader, self._upstream, from_server=False)),
            asyncio.ensure_future(self._pump(self._answers, self._writer, from_server=True)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            spell = self.gate.spell(self._writer)
            if spell is not None and spell.kind == "slow_close":
                spell.strike()
                await asyncio.sleep(0.3)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        while chunk := await reader.read(65536):
            for part in self._points(chunk, from_server=from_server):
                await self._pass(part, writer, from_server=from_server)
            self._after(chunk, from_server=from_server)

    async def _pass(self, part: bytes, writer: asyncio.StreamWriter, *, from_server: bool) -> None:
        if (spell := self.gate.spell(self._writer)) is None:
            writer.write(part)
            await writer.drain()
            return
        try:
            async for piece in spell.spoil(part, from_server=from_server, at_commit=self._at_commit):
                writer.write(piece)
                await writer.drain()
        except HalfShut:
            writer.write_eof()
            await asyncio.sleep(3600)
        except Silence as silence:
            await asyncio.sleep(silence.seconds)
            raise Cut from None

    def _points(self, chunk: bytes, *, from_server: bool) -> Iterator[bytes]:
        """What of the chunk passes, each part before the next point is met. Raises `Cut` where the daemon was killed."""
        if self.gate.side == "esp":
            yield from self._points_of_ask(chunk, from_server=from_server)
        elif not self._session:
            if NAME in chunk:
                self._session = chunk.partition(NAME)[2].partition(b"\x00")[0].decode()
                self.gate.meet("startup")
            yield chunk
        elif from_server:
            if TOO_MANY in chunk:
                self.gate.note_crowd()
            self._in_transaction = IN_TRANSACTION in chunk
            self._at_commit = self._says_committed(chunk)
            if self._at_commit:
                self._meet("commit_unanswered")
            yield chunk
        else:
            if self._session == "settler":
                self.gate.meet("settle_begins")
            yield from self._points_of_commit(chunk)

    def _points_of_commit(self, chunk: bytes) -> Iterator[bytes]:
        """Before a COMMIT, or before the Sync that ends a claim's pipeline. What a claimer commits else is no point."""
        self._claims.update(LEASES.findall(chunk))
        named = any(b"\x00" + name + b"\x00" in chunk for name in self._claims if name)
        self._leases |= named or b"insert into outboxd.lease" in chunk
        self._at_commit, wanted = False, b""
        places = [chunk.find(pattern) for pattern in COMMITS if pattern in chunk]
        if places and (self._leases or self._session != "claimer"):
            wanted = COMMITTED
        elif self._leases and SYNC in chunk and not self._in_transaction:
            places, wanted = [chunk.find(SYNC)], READY
        if not wanted:
            yield chunk
            return
        self._leases, self._committed = False, wanted
        yield chunk[: min(places)]
        self._meet("before_commit")
        self._at_commit = True
        yield chunk[min(places) :]

    def _says_committed(self, chunk: bytes) -> bool:
        if not self._committed or self._committed not in chunk:
            return False
        return self._committed is COMMITTED or NOTHING not in chunk

    def _points_of_ask(self, chunk: bytes, *, from_server: bool) -> Iterator[bytes]:
        if from_server:
            self.gate.meet("ask_unanswered")
            yield chunk
        else:
            now = time.time()
            self.gate.keys += [(now, key.decode("latin-1")) for key in KEYS.findall(chunk)]
            yield chunk[: len(chunk) // 2]
            self.gate.meet("ask_part")
            yield chunk[len(chunk) // 2 :]

    def _after(self, chunk: bytes, *, from_server: bool) -> None:
        """Points that lie behind what has just passed."""
        if not from_server:
            return
        if self.gate.side == "esp":
            self.gate.meet("ask_answered")
        elif self._committed and self._committed in chunk:
            told, self._committed = self._says_committed(chunk), b""
            if told:
                self._meet("done")

    def _meet(self, point: str) -> None:
        self.gate.meet(f"{VERBS.get(self._session, self._session)}_{point}")


def refused_connects() -> int:
    """How many connects failed so far, of all processes in this network: a port where nobody listens sees none."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("AttemptFails")])


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    peer = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(AttributeError):
        writer.transport.abort()
