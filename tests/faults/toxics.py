"""What a proxy can do to a connection: 24 kinds. `server` kinds spoil what the server says, `both` either way.

What no TCP connection can do by itself (a changed, doubled or swapped chunk) ends it, as TLS would: on Postgres with
a message that the protocol does not know, before the provider behind the first spoiled or doubled chunk.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

KINDS = (
    "latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data", "blackhole",
    "one_way_partition", "half_close", "drop_after_n_bytes", "corrupt_byte", "duplicate_chunk", "accept_then_close",
    "accept_never_read", "syn_refuse", "rst_on_nth", "delay_first_byte", "drip", "swap_order", "tls_garbage",
    "pause_resume", "per_connection_random", "mid_commit_cut",
)  # fmt: skip
AT_ACCEPT = {"accept_then_close", "accept_never_read", "tls_garbage", "blackhole", "syn_refuse"}
COMMITS = (b"Q\x00\x00\x00\x0bCOMMIT\x00", b"P\x00\x00\x00\x0e\x00COMMIT\x00\x00\x00")
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"  # cut here, it has happened and nobody is told
UNKNOWN_MESSAGE = b"\xff\x00\x00\x00\x04"


class Cut(Exception):  # noqa: N818 - an order, not an error
    """Reset the connection now."""


class Silence(Exception):  # noqa: N818
    """Keep the connection open, and pass nothing any more."""


@dataclass(slots=True)
class Spell:
    """One connection's fault. `side` is pg or esp; `level` 1 to 3 is how hard it strikes."""

    kind: str
    side: str
    level: int
    luck: random.Random
    passed: int = 0
    chunks: int = 0
    struck: bool = False
    name: str = ""
    on_strike: Callable[[str], None] = str

    def __post_init__(self) -> None:
        self.name = self.kind
        if self.kind == "per_connection_random":
            others = [kind for kind in KINDS if kind not in AT_ACCEPT and kind != self.kind]
            self.kind = self.luck.choice(others)

    def strike(self) -> None:
        """It happened to this connection; counted once."""
        if not self.struck:
            self.struck = True
            self.on_strike(self.name)

    async def spoil(
        self, chunk: bytes, *, from_server: bool, at_commit: bool = False
    ) -> AsyncIterator[bytes]:
        """What of a chunk passes, and when. Raises `Cut` or `Silence` where the connection ends instead."""
        self.passed += len(chunk)
        self.chunks += 1
        if self.chunks == 1 and self.side == "pg":
            yield chunk  # the handshake
            return
        if self.kind in SPOILS_STREAM:
            if from_server:
                self.strike()
                for part in self._broken(chunk):
                    yield part
                raise Cut
            else:
                yield chunk
        elif self.kind in ENDS_IT:
            self._end(from_server=from_server, at_commit=at_commit)
            yield chunk
        else:
            async for part in self._slow(chunk, from_server=from_server):
                yield part

    def _broken(self, chunk: bytes) -> list[bytes]:
        if self.side == "pg":
            return [UNKNOWN_MESSAGE]
        if self.kind == "corrupt_byte":
            return [bytes([chunk[0] ^ 0x55]) + chunk[1:]]
        if self.kind == "duplicate_chunk":
            return [chunk]  # TLS refuses the second
        middle = len(chunk) // 2
        return [chunk[middle:], chunk[:middle]]

    def _end(self, *, from_server: bool, at_commit: bool) -> None:
        """Decide whether it is over for this connection."""
        at_commit = at_commit or (self.side == "esp" and from_server)
        over = {
            "timeout": self.passed > 2000 and self.luck.random() < 0.2 * self.level,
            "reset_peer": self.luck.random() < 0.05 * self.level,
            "limit_data": self.passed > 4_000 // self.level,
            "one_way_partition": from_server and self.luck.random() < 0.1 * self.level,
            "half_close": from_server and self.luck.random() < 0.1 * self.level,
            "drop_after_n_bytes": self.passed > 6_000 // self.level,
            "rst_on_nth": self.chunks >= 8 // self.level,
            "mid_commit_cut": at_commit and self.luck.random() < 0.3 * self.level,
        }[self.kind]
        if over:
            self.strike()
            raise Silence if self.kind in {"timeout", "one_way_partition"} else Cut

    async def _slow(self, chunk: bytes, *, from_server: bool) -> AsyncIterator[bytes]:
        self.strike()
        if self.kind == "latency":
            await asyncio.sleep(self.luck.uniform(0.01, 0.03) * self.level)
        elif self.kind == "delay_first_byte" and from_server:
            await asyncio.sleep(0.05 * self.level if self.side == "pg" else 0.4 * self.level)
        elif self.kind == "bandwidth":
            await asyncio.sleep(min(0.2, len(chunk) * self.level / 200_000))
        elif self.kind == "pause_resume" and self.luck.random() < 0.05:
            await asyncio.sleep(0.5 * self.level)
        elif self.kind in {"slicer", "drip"}:
            size, pause = (37, 0.0) if self.kind == "slicer" else (1, 0.01 * self.level)
            for start in range(0, min(len(chunk), 20 * size), size):
                yield chunk[start : start + size]
                await asyncio.sleep(pause)
            chunk = chunk[20 * size :]
        yield chunk


SPOILS_STREAM = {"corrupt_byte", "duplicate_chunk", "swap_order"}
ENDS_IT = {
    "timeout", "reset_peer", "limit_data", "one_way_partition", "half_close", "drop_after_n_bytes", "rst_on_nth",
    "mid_commit_cut",
}  # fmt: skip
