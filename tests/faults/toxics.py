"""What a proxy can do to a connection: 24 kinds. `server` kinds spoil what the server says, `both` either way.

What no TCP connection can do by itself (a changed, doubled or swapped chunk) ends it, as TLS would: on Postgres in the
middle of the chunk, or with a message that the protocol does not know behind it or instead of it; before the provider
behind the first spoiled chunk. Only there chunks are really doubled: the client must not take the second for an answer.
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


class Shut(Exception):  # noqa: N818
    """Close the connection in order, both ways."""


class HalfShut(Exception):  # noqa: N818
    """Close this direction in order, and leave the other one."""


class Silence(Exception):  # noqa: N818
    """Keep the connection open, and pass nothing in this direction any more; reset it after these seconds."""

    def __init__(self, seconds: float = 3600.0) -> None:
        super().__init__(seconds)
        self.seconds = seconds


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
    asked: bool = True  # whether the last chunk was the client's
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
        """What of a chunk passes, and when. Raises what becomes of the connection where it ends instead."""
        self.passed += len(chunk)
        self.chunks += 1
        first, self.asked = from_server and self.asked, not from_server
        if self.chunks == 1 and self.side == "pg":
            yield chunk  # the handshake
            return
        if self.kind == "duplicate_chunk" and self.side == "esp":
            yield chunk
            if from_server and self._draws(0.3):
                self.strike()
                yield chunk
        elif self.kind in SPOILS_STREAM and from_server:
            self.strike()
            for part in self._broken(chunk):
                yield part
            raise Cut
        elif self.kind == "limit_data" and self.passed > self._most(4_000):
            self.strike()
            yield chunk[: max(0, len(chunk) - (self.passed - self._most(4_000)))]
            raise Shut
        elif self.kind in ENDS_IT:
            self._end(from_server=from_server, at_commit=at_commit)
            yield chunk
        elif (seconds := self._waits(len(chunk), first=first)) > 0:
            self.strike()
            await asyncio.sleep(seconds)
            yield chunk
        elif self.kind in {"slicer", "drip"} and len(chunk) > 1:
            async for part in self._sliced(chunk):
                yield part
        else:
            yield chunk

    def _most(self, size: int) -> int:
        return size // self.level

    def _broken(self, chunk: bytes) -> list[bytes]:
        middle = len(chunk) // 2
        if self.side == "pg":
            return {
                "corrupt_byte": [chunk[:middle]],
                "duplicate_chunk": [chunk, UNKNOWN_MESSAGE],
                "swap_order": [UNKNOWN_MESSAGE],
            }[self.kind]
        if self.kind == "corrupt_byte":
            return [bytes([chunk[0] ^ 0x55]) + chunk[1:]]
        return [chunk[middle:], chunk[:middle]]

    def _end(self, *, from_server: bool, at_commit: bool) -> None:
        """Decide whether it is over for this connection."""
        at_commit = at_commit or (self.side == "esp" and from_server)
        over, how = {
            "timeout": (self.passed > 2000 and self._draws(0.2), Silence(0.7 * self.level)),
            "reset_peer": (self._draws(0.05), Cut()),
            "one_way_partition": (from_server and self._draws(0.1), Silence()),
            "half_close": (not self.struck and self._draws(0.1), HalfShut()),
            "drop_after_n_bytes": (self.passed > self._most(6_000), Silence()),
            "rst_on_nth": (self.chunks >= 8 // self.level, Cut()),
            "mid_commit_cut": (at_commit and self._draws(0.3), Cut()),
        }[self.kind]
        if over:
            self.strike()
            raise how

    def _draws(self, share: float) -> bool:
        return self.luck.random() < share * self.level

    def _waits(self, size: int, *, first: bool) -> float:
        """Seconds before this chunk passes; `first`: of an answer."""
        match self.kind:
            case "latency":
                return self.luck.uniform(0.01, 0.03) * self.level
            case "delay_first_byte" if first:
                return 0.05 * self.level if self.side == "pg" else 0.4 * self.level
            case "bandwidth":
                return min(0.2, size * self.level / 100_000)
            case "pause_resume" if self.luck.random() < 0.05:
                return 0.5 * self.level
            case _:
                return 0.0

    async def _sliced(self, chunk: bytes) -> AsyncIterator[bytes]:
        """The beginning in pieces, the rest at once."""
        size, pause = (37, 0.0) if self.kind == "slicer" else (1, 0.01 * self.level)
        if len(chunk) > size:
            self.strike()
        for start in range(0, min(len(chunk), 20 * size), size):
            yield chunk[start : start + size]
            await asyncio.sleep(pause)
        yield chunk[20 * size :]


SPOILS_STREAM = {"corrupt_byte", "duplicate_chunk", "swap_order"}
ENDS_IT = {
    "timeout", "reset_peer", "one_way_partition", "half_close", "drop_after_n_bytes", "rst_on_nth",
    "mid_commit_cut",
}  # fmt: skip
