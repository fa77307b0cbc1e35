"""The units by systemd's own judgement, and the compose file by its own reader."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from needs import needs

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))
EXPOSURE = 15  # tenths: systemd's scale ends at 100


def judged(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [needs("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(params=UNITS, ids=lambda path: path.name)
def unit(request, tmp_path: Path) -> Path:
    """A copy whose program exists, as it does where outboxd is installed; a template with an instance."""
    copy = tmp_path / request.param.name.replace("@.", "@shop.")
    copy.write_text(request.param.read_text().replace("/opt/outboxd/bin/outboxd", "/bin/true"))
    return copy


def test_verify_finds_nothing(unit):
    done = judged("verify", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_exposure_is_low(unit):
    done = judged("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert float(found[1]) * 10 <= EXPOSURE


def settings(text: str) -> list[str]:
    """Every line that sets something, with what belongs to one instance taken out."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
    return [re.sub(r"-?%i|shop\.", "", line).replace("/.", "/") for line in lines]


def test_the_template_differs_from_the_unit_only_by_its_instance():
    one, many = ((ROOT / "systemd" / name).read_text() for name in ("outboxd.service", "outboxd@.service"))
    own = re.compile(r"^(Description|ExecStart)=")
    assert [line for line in settings(one) if not own.match(line)] == [
        line for line in settings(many) if not own.match(line)
    ]
    assert "--config /etc/outboxd/%i.toml run" in many


@pytest.mark.parametrize("instance", ["", "shop"], ids=["unit", "template"])
@pytest.mark.parametrize(
    ("credential", "file", "handed"),
    [(True, True, True), (True, False, False), (False, True, False)],
    ids=["rotated", "gone", "not a credential of the service"],
)
def test_a_reload_hands_over_the_newest_database_url(tmp_path, instance, credential, file, handed):
    """The unit's own lines, by a real shell, on folders of the test's; what is in none of them is not handed over."""
    text = (ROOT / "systemd" / f"outboxd{'@' if instance else ''}.service").read_text()
    etc, credentials, runtime = (tmp_path / name for name in ("etc", "credentials", "runtime"))
    for folder in (etc, credentials, runtime / ("outboxd-shop" if instance else "outboxd")):
        folder.mkdir(parents=True)
    prefix = "shop." if instance else ""
    (etc / f"{prefix}resend_api_key").write_text("re_new")
    if credential:
        (credentials / "database_url").write_text("postgresql:///old")
    if file:
        (etc / f"{prefix}database_url").write_text("postgresql:///new")
    text = re.sub(r"-o outboxd(-%i)?", f"-o {os.geteuid()}", text).replace("/etc/outboxd", str(etc))
    text = text.replace("%d", str(credentials)).replace("%t", str(runtime)).replace("%i", instance)
    for line in re.findall(r"^ExecReload=\+(.+)$", text, re.MULTILINE):
        subprocess.run(shlex.split(line), check=True)
    found = {path.name: path for path in runtime.rglob("*") if path.is_file()}
    assert found["resend_api_key"].read_text() == "re_new"
    assert ("database_url" in found) == handed
    if handed:
        assert found["database_url"].read_text() == "postgresql:///new"
        assert found["database_url"].stat().st_mode & 0o777 == 0o400


def test_the_compose_file_is_accepted():
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "RESEND"))}
    command = [needs("docker-compose"), "-f", ROOT / "deploy" / "compose.yaml", "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for service in ("postgres", "migrate", "outboxd", "sink"):
        assert f"\n  {service}:\n" in done.stdout
