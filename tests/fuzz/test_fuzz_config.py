"""Any file and environment is a configuration or a ConfigError, and no secret shows in it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trying import LONG_TEXTS, cheaply, hostile_text, many

from outboxd import config
from outboxd.core.rulebook import load as load_rules
from outboxd.errors import ConfigError

KEYS = [
    "database.url", "database.after_failover", "resend.api_key", "resend.api_url", "resend.deadline", "resend.proxy",
    "resend.account", "sender.threads", "sender.lease", "sender.crash_limit", "health.listen", "log.level", "environment",
]  # fmt: skip
EACH_KIND = [  # of value, once: others are read and checked in the same way
    "database.url", "database.after_failover", "resend.api_url", "resend.deadline", "resend.proxy", "resend.account",
    "sender.threads", "health.listen",
]  # fmt: skip
SECRET = "re_fuzz_s3cr3t"
values = st.one_of(
    hostile_text(40),
    st.sampled_from(
        ["http://[", "http://[::1", "https://a@b", "//", "http://a:b:c", "http://a:99999", "20s", "1e9s", "9" * 400 + "s",
         "0ms", "-1s", "١s", "9" * 400, "-0", "²", "127.0.0.1:99999", ":", "[::1]:80", "", " ", "a" * 5000]
    ),
)  # fmt: skip
environments = st.dictionaries(
    st.sampled_from([f"OUTBOXD_{key.upper().replace('.', '__')}" for key in KEYS]) | hostile_text(20),
    values,
    max_size=4,
)
literals = st.one_of(
    st.integers().map(str), st.floats().map(str), st.booleans().map(str), hostile_text(20).map(lambda text: f'"{text}"'),
    st.sampled_from(["[]", "{}", "[1, 'a']", "1979-05-27", "'''", '"\\ud800"', "nan", "[[", "{a = 1", "0x" + "f" * 9000]),
)  # fmt: skip
toml = st.one_of(
    hostile_text(200),
    st.lists(
        st.tuples(st.sampled_from(["[resend]", "[sender]", "[[sender]]", "[a.b]", "[limits.x]", "[queues]"]), st.lists(
            st.tuples(st.sampled_from([key.partition(".")[2] or key for key in KEYS]) | hostile_text(8), literals), max_size=3
        )),
        max_size=3,
    ).map(lambda tables: "\n".join(f"{head}\n" + "\n".join(f"{key} = {value}" for key, value in rows) for head, rows in tables)),
)  # fmt: skip


def tried(path: object, environ: dict[str, str]) -> None:
    try:
        found = config.load(path, environ)
    except ConfigError as error:
        assert error.mistakes
        assert SECRET not in str(error)
    else:
        assert SECRET not in repr(found)


@many(250)
@given(environments)
def test_any_environment_is_a_configuration_or_refused_as_one(environ):
    tried(None, environ | {"RESEND_API_KEY": SECRET})


@many(150)
@given(toml)
def test_any_file_is_a_configuration_or_refused_as_one(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "fuzz.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    tried(file, {"OUTBOXD_RESEND__PROXY": f"http://{SECRET}@[", "RESEND_API_KEY": SECRET})


@many(150)
@given(toml)
def test_any_rulebook_is_one_or_refused_as_one(text):
    with contextlib.suppress(ConfigError):
        load_rules(text)


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: ascii(text[:8]))
def test_a_long_value_costs_little(tmp_path, text):
    file = tmp_path / "long.toml"
    for key in EACH_KIND:
        environ = {f"OUTBOXD_{key.upper().replace('.', '__')}": text}
        cheaply(lambda environ=environ: tried(None, environ))
    short = text[:20_000]  # of a file that an operator wrote
    for whole in (short, f"[sender]\nthreads = {short}", f"[sender]\n{short} = 1"):
        file.write_bytes(whole.encode("utf-8", "surrogatepass"))
        cheaply(lambda: tried(file, {}))


def test_a_deep_file_costs_little(tmp_path):
    file = tmp_path / "deep.toml"
    file.write_text("a = " + "[" * 100_000)
    cheaply(lambda: tried(file, {}))
