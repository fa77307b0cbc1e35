"""Configuration: sources in order, every mistake at once, secrets never shown."""

import re
from datetime import timedelta

import pytest

from outboxd.config import Secret, load
from outboxd.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "outboxd.toml"
        path.write_text(text)
        return path

    return write


def test_later_sources_win(file, tmp_path):
    (tmp_path / "resend_api_key").write_text("re_credential\n")
    path = file(
        '[sender]\nthreads = 3\n[resend]\napi_key = "re_file"\napi_url = "https://file.example/"\n[database]\nurl = "postgresql:///file"'
    )
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "DATABASE_URL": "postgresql:///env",
        "OUTBOXD_SENDER__THREADS": "5",
    }
    config = load(path, environ, {"sender.threads": 7})
    assert config.sender.threads == 7
    assert config.resend.api_key == Secret("re_credential")
    assert config.database.url == Secret("postgresql:///env")
    assert config.resend.api_url == "https://file.example"


def test_every_mistake_is_reported_at_once_with_what_was_meant(file):
    path = file(
        '[sender]\nthreds = 3\nlease = "1h"\n[resend]\ndeadline = 20\napi_url = "ftp://x"\n[log]\nformat = "jsn"\n[nonsense]\na = 1'
    )
    with pytest.raises(ConfigError) as refusal:
        load(path, {}, require=frozenset({"database.url"}))
    text = "\n".join(refusal.value.mistakes)
    for words in (
        "did you mean 'sender.threads'",
        "sender.lease",
        "resend.deadline",
        "resend.api_url",
        "did you mean 'json'",
        "nonsense.a",
        "DATABASE_URL",
    ):
        assert words in text


def test_a_lease_must_outlast_its_request():
    with pytest.raises(ConfigError, match="at least 40s"):
        load(None, {"OUTBOXD_RESEND__DEADLINE": "30s", "OUTBOXD_SENDER__LEASE": "35s"})


def test_secrets_do_not_show(file):
    config = load(
        file(""), {"RESEND_API_KEY": "re_very_secret", "DATABASE_URL": "postgresql://u:very_secret@h/d"}
    )
    assert "very_secret" not in repr(config)
    with pytest.raises(ConfigError) as refusal:
        load(file(""), {"RESEND_API_KEY": "re_very_secret", "OUTBOXD_LOG__LEVEL": "loud"})
    assert "very_secret" not in str(refusal.value)


def test_defaults_are_those_of_the_contract():
    config = load(None, {})
    assert (config.sender.threads, config.sender.crash_limit) == (20, 3)
    assert (config.resend.deadline, config.sender.lease) == (timedelta(seconds=20), timedelta(seconds=60))


@pytest.mark.parametrize("text", ["[sender", "sender = 3"])
def test_a_broken_file_is_named(file, text):
    with pytest.raises(ConfigError, match=r"outboxd\.toml|sender"):
        load(file(text), {})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OUTBOXD_RESEND__API_URL", "http://[", "resend.api_url: is not a URL"),
        ("OUTBOXD_RESEND__API_URL", f"http://{'a' * 64}.example", "resend.api_url: is not a URL"),
        ("OUTBOXD_RESEND__PROXY", f"http://{'a' * 64}.example:3128", "resend.proxy: must look like"),
        ("OUTBOXD_SENDER__LEASE", "9" * 400 + "s", "sender.lease: must be a duration"),
    ],
)
def test_a_value_that_no_parser_takes_is_a_mistake_and_no_traceback(name, value, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(None, {name: value})


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, f"a = {'9' * 5000}"], ids=["deep", "many digits"])
def test_a_file_that_no_parser_takes_is_a_mistake_and_no_traceback(tmp_path, text):
    file = tmp_path / "outboxd.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="is not TOML"):
        load(file, {})
