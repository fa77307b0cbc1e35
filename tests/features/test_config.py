"""Configuration: sources in order, every mistake at once, secrets never shown."""

import os
import re
import subprocess
import sys
from datetime import timedelta

import pytest
from certificates import SELF_SIGNED

from outboxd.config import Secret, load
from outboxd.errors import ConfigError

REVOCATIONS = """-----BEGIN X509 CRL-----
MIGSMEYCAQEwBQYDK2VwMAwxCjAIBgNVBAMMAXgXDTI2MTEyNjIzMDYzNFoXDTM2
MTEyMzIzMDYzNFqgDjAMMAoGA1UdFAQDAgECMAUGAytlcANBAPP8uhUXre22+jzM
LTwSPHZZv94liZeOmGeORv5Yudti1kL+rPGYsCmcWds1Tw9yazuc1crJKA4kvXF2
waf85w4=
-----END X509 CRL-----
"""


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


def test_what_needs_a_parser_or_a_file_is_reported_with_all_else(file):
    path = file(
        '[database]\nurl = "shop"\nlisten_url = "mysql://h/d"\n[resend]\nca_file = "/nowhere.pem"\n[sender]\nthreds = 3'
    )
    with pytest.raises(ConfigError) as refusal:
        load(path, {}, require=frozenset({"database.url", "resend.api_key"}))
    assert sorted(mistake.partition(":")[0] for mistake in refusal.value.mistakes) == [
        "database.listen_url",
        "database.url",
        "resend.api_key",
        "resend.ca_file",
        "sender.threds",
    ]


@pytest.mark.parametrize("key", ["database.url", "database.listen_url"])
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("pa55word", "cannot be read; it looks like postgresql://user@host:5432/database"),
        ("mysql://ada:pa55word@db.example/shop", "cannot be read"),
        ("postgresql://ada:pa55word@[::1/shop", "cannot be read"),
        ("postgresql://ada:pa55word%zz@db.example/shop", "cannot be read"),
        ("postgresql://ada:pa55word more@db.example/shop", "cannot be read"),
        ("postgresql://ada:pa55word@db.example/shop?pa55word=1", "cannot be read"),
        ("host=db.example password='pa55word", "cannot be read"),
        ("postgresql://ada:pa55word\udcff@db.example/shop", "cannot be read"),
        ("postgresql://ada:pa55word/more@db.example/shop", "a port that is not a number between 1 and 65535"),
        ("postgresql://ada:pa55word@one.example:5432,two.example:65536/shop", "a port that is not a number"),
    ],
)
def test_a_database_url_that_libpq_does_not_take_is_named_and_not_shown(key, url, words):
    with pytest.raises(ConfigError) as refusal:
        load(None, {}, {key: url}, require=frozenset({"database.url"} & {key}))
    (mistake,) = refusal.value.mistakes
    assert mistake.startswith(f"{key}: ")
    assert words in mistake
    assert "pa55word" not in repr(refusal.value) + mistake


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///shop",
        "postgres://ada:a%2Fb@db.example/shop?sslmode=verify-full&sslrootcert=system",
        "postgresql://ada@one.example,two.example:5433/shop?target_session_attrs=read-write",
        "postgresql://ada@/shop?host=/run/a,/run/b&port=5432,05433",
        "host=/run/postgresql dbname=shop",
        "service=shop",
    ],
)
def test_a_database_url_may_be_whatever_libpq_takes(url):
    config = load(None, {"DATABASE_URL": url, "OUTBOXD_DATABASE__LISTEN_URL": url})
    assert config.database.url == config.database.listen_url == Secret(url)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("", "holds no certificate"),
        ("our-proxy", "holds no certificate"),
        (SELF_SIGNED.read_text()[:300], "holds no certificate"),
        (REVOCATIONS, "holds no certificate"),
    ],
    ids=["missing", "empty", "text", "cut off", "revocations"],
)
def test_a_certificate_file_without_certificates_is_named(tmp_path, content, words):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(f"resend.ca_file: {file} {words}")):
        load(None, {"OUTBOXD_RESEND__CA_FILE": str(file)})


def test_a_folder_is_no_certificate_file(tmp_path):
    with pytest.raises(ConfigError, match=r"resend\.ca_file: .* cannot be read \(Is a directory\)"):
        load(None, {"OUTBOXD_RESEND__CA_FILE": str(tmp_path)})


def test_a_certificate_file_with_a_certificate_is_taken():
    assert load(None, {"OUTBOXD_RESEND__CA_FILE": str(SELF_SIGNED)}).resend.ca_file == str(SELF_SIGNED)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("run", 78),
        ("--config outboxd.toml run", 78),
        ("--config=outboxd.toml run --threads 3", 78),
        ("--config run run", 78),
        ("--config missing.toml run", 78),
        ("--config run queues list", 1),
        ("queues list", 1),
    ],
)
def test_a_wrong_configuration_ends_run_with_78_and_other_commands_with_1(tmp_path, arguments, code):
    for name in ("outboxd.toml", "run"):
        (tmp_path / name).write_text('[database]\nurl = "postgresql://ada:pa55word@[/shop"\n')
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOXD_")}
    clean.pop("DATABASE_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "outboxd", *arguments.split()],
        cwd=tmp_path,
        env=clean | {"OUTBOXD_CONFIG": "outboxd.toml", "RESEND_API_KEY": "re_0123456789"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "outboxd: the configuration is wrong:\n" in done.stderr
    assert "pa55word" not in done.stderr
