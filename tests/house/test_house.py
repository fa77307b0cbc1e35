"""The house stays small, its generated files stay true, and its public import stays light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "outboxd").rglob("*.py"))
QUERIES = sorted((ROOT / "sql" / "queries").rglob("*.sql"))
LONG_QUERIES = {
    "lease/claim": 65,  # one statement: what is leased is what was deleted
    "batch/claim": 75,  # the same for batches
    "ready/slots": 45,  # one look at all that waits
    "ready/park": 46,  # whose each is, for those who move and for those who stay
    "instance/discard": 45,  # three ends of what waits
    "instance/discard_batches": 43,  # the same of batches
    "lease/settle": 192,  # every end of an email in one fenced statement
    "unanswered/end": 95,  # two kinds of what waits, one way to end
    "lease/reclaim": 140,  # the same for leases that ran out
}
READS_ENVIRONMENT = {"config.py", "localpg.py"}  # localpg must work where there is no configuration yet


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_one_noun(module):
    text = module.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 70, node.name
    if module.name not in READS_ENVIRONMENT:
        assert "os.environ" not in text
    assert not re.search(r"log\.\w+\(\s*f[\"']", text), "an f-string in a log call"


@pytest.mark.parametrize("file", QUERIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_query_is_short_commented_and_used_once(file):
    name = f"{file.parent.name}/{file.stem}"
    text = file.read_text()
    assert text.startswith("-- ")
    assert len(text.splitlines()) <= LONG_QUERIES.get(name, 40)
    uses = sum(module.read_text().count(f'query("{name}")') for module in MODULES)
    assert uses == 1, f"{name} is used {uses} times"


def loaded_by(module: str) -> set[str]:
    """The packages that are loaded after `import module` in a fresh interpreter."""
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(made.stdout.split())


def test_importing_outboxd_imports_nothing_heavy():
    heavy = {
        "httpx", "httpcore", "alembic", "sqlalchemy", "opentelemetry", "psycopg", "email_validator", "click"
    }  # fmt: skip
    assert not loaded_by("outboxd") & heavy


def test_the_daemon_imports_neither_a_command_line_nor_migrations():
    """A fifth of its start, when it did."""
    unneeded = {"click", "rich", "pygments", "httpx", "alembic", "sqlalchemy", "uvicorn", "starlette"}
    assert not loaded_by("outboxd.daemon") & unneeded


@pytest.mark.parametrize(
    ("script", "file"), [("schema.py", "sql/schema.sql"), ("configuration_docs.py", "docs/configuration.md")]
)
def test_a_generated_file_is_up_to_date(script, file):
    made = subprocess.run(
        [sys.executable, ROOT / "scripts" / script], capture_output=True, text=True, check=True
    )
    assert made.stdout == (ROOT / file).read_text(), f"run make: {file} is not what {script} prints"


def test_every_setting_is_in_the_documented_file():
    from dataclasses import MISSING, fields

    from outboxd.config import Config, load

    text = (ROOT / "deploy" / "outboxd.toml").read_text()
    for section in fields(Config):
        if section.default is not MISSING:
            assert re.search(rf"^#? ?{section.name} = ", text.partition("[")[0], re.MULTILINE)
            continue
        assert f"[{section.name}]" in text
        for item in fields(section.default_factory):
            assert re.search(rf"^#? ?{item.name} = ", text, re.MULTILINE), item.name
    load(ROOT / "deploy" / "outboxd.toml", {})


def test_make_explains_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets == set(re.findall(r"make ([a-z-]+)", shown))


def test_the_readme_shows_its_two_commands_on_the_first_screen():
    first = "\n".join((ROOT / "README.md").read_text().splitlines()[:24])
    assert "make demo" in first
    assert "make test" in first
