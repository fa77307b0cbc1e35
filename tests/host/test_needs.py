"""What is missing is named with the line that installs it; nothing is skipped."""

import pytest
from needs import NEEDS, Need, main, needs


def test_what_is_missing_fails_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(NEEDS, "nothing", Need(lambda: None, "libnothing", "does nothing"))
    with pytest.raises(pytest.fail.Exception, match=r"no nothing .*: apt-get install libnothing"):
        needs("nothing")


def test_all_that_is_missing_is_named_at_once(monkeypatch, capsys):
    for name in list(NEEDS):
        monkeypatch.setitem(NEEDS, name, Need(lambda: None, f"deb-{name}", "reason"))
    assert main([]) == 1
    said = capsys.readouterr().err
    assert all(f"missing: {name}" in said for name in NEEDS)
    assert "install them all: apt-get install deb-node deb-npm" in said
    assert main(["--packages"]) == 0
    assert capsys.readouterr().out.split() == [f"deb-{name}" for name in NEEDS]
