"""How much is tried, and what one input may cost."""

import functools
import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SOON: Final = "set local statement_timeout = '2s'"  # in Postgres, where it is the clock of the wall
TIMES: Final = int(os.environ.get("OUTBOXD_FUZZ", "1"))
MOST_SECONDS: Final = 0.5  # of this thread's processor time for one input; the usual is a hundredth
JUNK: Final = (
    "\x00\x01\x1b\r\n\t \"'\\<>()[]{},:;@.%=#`$\u0085\u200b\u2028\u202e\ud800\udfff\ufffd\U0001f600é̈ßıİ١"
)
LONG: Final = 200_000  # characters


def many(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Try this many examples, or as many times that as was asked for; none may be slow."""
    tried = settings(max_examples=examples * TIMES, deadline=None, suppress_health_check=list(HealthCheck))

    def decorate(test: Any) -> Any:
        given = tried(test)
        given.hypothesis.inner_test = _timed(given.hypothesis.inner_test)
        return given

    return decorate


def _timed(call: Callable[..., None]) -> Callable[..., None]:
    """Not by the clock of the wall, which a busy machine moves."""

    @functools.wraps(call)
    def timed(*arguments: Any, **named: Any) -> None:
        before = time.thread_time()
        call(*arguments, **named)
        spent = time.thread_time() - before
        assert spent < MOST_SECONDS, f"{spent:.2f} s"

    return timed


def hostile_text(most: int = 60) -> st.SearchStrategy[str]:
    """Text of anything, surrogates and controls included, with what parsers stumble over."""
    return st.text(st.one_of(st.sampled_from(JUNK), st.characters()), max_size=most)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | hostile_text(12).filter(lambda text: text.isprintable() or len(text) < 6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_text(8), inner, max_size=4),
    max_leaves=12,
)

LONG_TEXTS: Final = [
    "a" * LONG, " " * LONG, '"' * LONG, "\\" * LONG, "<" * LONG, ">" * LONG, "(" * LONG, "@" * LONG, "." * LONG,
    "a." * (LONG // 2), "a@" * (LONG // 2), '\\"' * (LONG // 2), "é" * LONG, "a@b." + "c." * (LONG // 2) + "org",
    '"' + "a " * (LONG // 2) + "<a@b.co>", "ü" * 60 + "@" + "ü." * 100 + "de", "xn--" * (LONG // 4), "[" * LONG,
    '{"a":' * (LONG // 5), "9" * LONG, "1." + "0" * LONG, "\x00" * LONG, "\ud800" * LONG, "%" * LONG, "`" * LONG,
]  # fmt: skip
STORABLE: Final = [
    text for text in LONG_TEXTS if text[0] not in "\x00\ud800"
]  # Postgres holds none of the others


def shapes(text: str) -> list[str]:
    """The text, and what could be taken for an address and a mailbox with it: whole, and as long as each may be."""
    return [
        one
        for cut in (len(text), 998, 254)
        for one in (text[:cut], text[: cut - 6] + "@b.org", f"{text[: cut - 9]} <a@b.co>")
    ]


def cheaply(call: Callable[[], object], *, most_bytes: int = 30_000_000) -> None:
    """Call it, twice; fail where it took long or much, whatever it returned."""
    before = time.thread_time()
    call()
    spent = time.thread_time() - before
    tracemalloc.start()
    try:
        call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert spent < MOST_SECONDS, f"{spent:.2f} s"
    assert peak < most_bytes, f"{peak} bytes"
