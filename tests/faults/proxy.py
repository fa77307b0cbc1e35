"""TCP proxies before Postgres and before the provider, one pair for each daemon, in one thread.

Beside faults they know the points of the path as the wire shows them: a claim's COMMIT, its answer, a request's first
bytes, its answer, a settle. `on_point` hears of each; where it answers true the daemon was killed, and nothing of the
rest passes.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .toxics import AT_ACCEPT, COMMITS, Cut, Silence, Spell

COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
NAME = b"application_name\x00outboxd "


@dataclass(slots=True)
class Network:
    """What all proxies of one side share: the fault of the moment, and how often each kind struck."""

    luck: random.Random
    toxic: dict[str, tuple[str, int]] = field(default_factory=dict)
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)

    def spell(self, side: str) -> Spell | None:
        """The fault of a connection that begins now."""
        found = self.toxic.get(side)
        if found is None:
            return None
        luck = random.Random(self.luck.random())
        return Spell(
            found[0], side, found[1], luck, on_strike=lambda kind: self.struck.update([(side, kind)])
        )


class Proxies:
    """The thread with its loop; `gate` opens a port."""

    def __init__(self, seed: int) -> None:
        self.network = Network(random.Random(seed))
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self.gates: list[Gate] = []

    def gate(self, side: str, target: tuple[str, int] | str, on_point: Callable[[str], bool]) -> "Gate":
        """A listener before the target: a host and port, or the path of a Unix socket."""
        gate = Gate(side, target, on_point, self.network)
        asyncio.run_coroutine_threadsafe(gate.open(), self.loop).result(10)
        self.gates.append(gate)
        return gate

    def begin(self, side: str, kind: str, level: int) -> None:
        """Every connection of this side meets the fault from now on; those that are open go on meeting it too."""
        self.network.toxic[side] = (kind, level)
        if kind == "syn_refuse":
            self._each(side, Gate.shut)
            self.network.struck[side, kind] += 1
        if kind in AT_ACCEPT:
            self._each(side, Gate.cut_all)

    def end(self, side: str) -> None:
        """Heal: what hangs is reset."""
        kind, _ = self.network.toxic.pop(side, ("", 0))
        if kind == "syn_refuse":
            self._each(side, Gate.open)
        self._each(side, Gate.cut_spoiled)

    def close(self) -> None:
        for gate in self.gates:
            asyncio.run_coroutine_threadsafe(gate.shut(), self.loop).result(10)
        asyncio.run_coroutine_threadsafe(_end_all(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    def _each(self, side: str, what) -> None:
        for gate in self.gates:
            if gate.side == side:
                asyncio.run_coroutine_threadsafe(what(gate), self.loop).result(10)


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
        self._target, self._on_point, self._net = target, on_point, net
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
        spell = self._net.spell(self.side)
        self._open[writer] = spell
        upstream: asyncio.StreamWriter | None = None
        try:
            if self.side == "esp" and self._on_point("ask_connect"):
                raise Cut
            if spell is not None and spell.kind in AT_ACCEPT:
                await self._turn_away(spell, reader, writer)
            answers, upstream = await self._connect()
            await Link(self, reader, writer, answers, upstream).run()
        except (Cut, OSError, asyncio.CancelledError):
            reset(writer)
        finally:
            self._open.pop(writer, None)
            for one in (writer, upstream):
                if one is not None:
                    one.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

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
        raise Cut

    def spell(self, writer: asyncio.StreamWriter) -> Spell | None:
        """What is wrong with this connection now; a fault that begins meets it too."""
        found = self._open.get(writer)
        if found is None and self.side in self._net.toxic and self._net.toxic[self.side][0] not in AT_ACCEPT:
            found = self._open[writer] = self._net.spell(self.side)
            assert found is not None
            found.chunks = 1  # its handshake is over
        return found

    def point(self, name: str) -> bool:
        """Whether the daemon was killed here."""
        return self._on_point(name)


class Link:
    """One connection through the proxy, both ways."""

    def __init__(self, gate, reader, writer, answers, upstream) -> None:
        self.gate = gate
        self._reader, self._writer, self._answers, self._upstream = reader, writer, answers, upstream
        self._session = ""
        self._committing = False
        self._asked = False

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
            async for piece in spell.spoil(part, from_server=from_server):
                writer.write(piece)
                await writer.drain()
        except Silence:
            await asyncio.sleep(3600)

    def _points(self, chunk: bytes, *, from_server: bool) -> Iterator[bytes]:
        """What of the chunk passes, each part before the next point is met. Raises `Cut` where the daemon was killed."""
        if self.gate.side == "esp":
            yield from self._points_of_ask(chunk, from_server=from_server)
        elif not self._session:
            if NAME in chunk:
                self._session = chunk.partition(NAME)[2].partition(b"\x00")[0].decode()
                self._meet("startup")
            yield chunk
        elif from_server:
            if self._committing and COMMITTED in chunk:
                self._meet(f"{self._verb()}_commit_unanswered")
            yield chunk
        else:
            if self._session == "settler":
                self._meet("settle_begins")
            yield from self._points_of_commit(chunk)

    def _points_of_commit(self, chunk: bytes) -> Iterator[bytes]:
        places = [chunk.find(pattern) for pattern in COMMITS if pattern in chunk]
        if not places:
            yield chunk
            return
        yield chunk[: min(places)]
        self._meet(f"{self._verb()}_before_commit")
        self._committing = True
        yield chunk[min(places) :]

    def _points_of_ask(self, chunk: bytes, *, from_server: bool) -> Iterator[bytes]:
        if from_server:
            self._meet("ask_unanswered")
            yield chunk
        else:
            yield chunk[: len(chunk) // 2]
            self._meet("ask_part")
            yield chunk[len(chunk) // 2 :]

    def _meet(self, point: str) -> None:
        if self.gate.point(point):
            raise Cut

    def _after(self, chunk: bytes, *, from_server: bool) -> None:
        """Points that lie behind what has just passed."""
        if not from_server:
            return
        if self.gate.side == "esp":
            self._meet("ask_answered")
        elif self._committing and COMMITTED in chunk:
            self._committing = False
            self._meet(f"{self._verb()}_done")

    def _verb(self) -> str:
        return {"claimer": "claim", "settler": "settle", "reclaimer": "reclaim"}.get(
            self._session, self._session
        )


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    peer = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(AttributeError):
        writer.transport.abort()
