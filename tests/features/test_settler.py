"""What the settler writes together: nobody's end is written while good mail of the same claim waits to be asked."""

import queue
from types import SimpleNamespace

import pytest
from core.test_retry import EMAIL

from outboxd.core.batch import Parcel
from outboxd.core.outcome import Returned, Sent, Suppressed
from outboxd.delivery import settler
from outboxd.delivery.hand import Held
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import LINGER, MOST, _gather

HELD = Held(Parcel((EMAIL,)), 0.0, 60.0, 0.0)
ASKED = Result(HELD, Sent("re_1"), asked_at=1.0)
UNASKED = [Result(HELD, Suppressed("unsubscribed", "all")), Result(HELD, Returned())]


class Inbox:
    """Has these results, and then nobody's for as long as it is waited: how long that would be is `waits`."""

    def __init__(self, *results: Result | None) -> None:
        self.results = list(results)
        self.waits: list[float] = []

    def get(self, timeout: float = 0.0) -> Result | None:
        self.waits.append(timeout)
        if not self.results:
            raise queue.Empty
        return self.results.pop(0)


@pytest.mark.parametrize("unasked", UNASKED, ids=["suppressed", "returned"])
def test_what_nobody_was_asked_for_waits_for_company(unasked):
    inbox = Inbox(unasked, ASKED)
    assert _gather(inbox) == ([unasked, ASKED], True)
    assert 0 < inbox.waits[1] <= LINGER
    assert inbox.waits[2] == 0, "an answer does not wait"


def test_an_answer_waits_for_nothing():
    inbox = Inbox(ASKED, UNASKED[0])
    assert _gather(inbox) == ([ASKED, UNASKED[0]], True)
    assert inbox.waits[1:] == [0, 0]


def test_it_waits_for_company_once_however_much_comes(monkeypatch):
    now = iter([10.0, *(10.0 + n * LINGER / 4 for n in range(100))])
    monkeypatch.setattr(settler, "time", SimpleNamespace(monotonic=lambda: next(now)))
    inbox = Inbox(*UNASKED * 4)
    _gather(inbox)
    assert inbox.waits[1:6] == pytest.approx([LINGER, LINGER * 3 / 4, LINGER / 2, LINGER / 4, 0])


def test_a_full_transaction_and_the_stop_wait_for_nothing():
    full = [UNASKED[1]] * MOST
    assert _gather(Inbox(*full)) == (full, True)
    stopping = Inbox(UNASKED[1], None)
    assert _gather(stopping) == ([UNASKED[1]], False)
