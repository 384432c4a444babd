import getpass
import platform
import re
import socket
from pathlib import Path

import pytest

from prunepeft_ray.results import SCHEMA_VERSION, TABLES, hardware, schema_markdown, versions

DOCS = Path(__file__).parents[2] / "docs" / "results.md"
REGENERATE = (
    'docs/results.md is out of date; type: python -c "from prunepeft_ray.results import schema_markdown; '
    "open('docs/results.md', 'w', encoding='utf-8').write(schema_markdown())\""
)


def test_the_documentation_of_the_tables_is_up_to_date():
    assert DOCS.read_text(encoding="utf-8") == schema_markdown(), REGENERATE


def test_the_documentation_has_every_column_with_type_and_meaning():
    text = schema_markdown()
    assert f"version {SCHEMA_VERSION}" in text
    for table, columns in TABLES.items():
        section = text.split(f"## {table}\n")[1].split("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert [line.split("`")[1] for line in rows] == [column.name for column in columns]
        for line, column in zip(rows, columns, strict=True):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert cells == [f"`{column.name}`", str(column.type), column.unit, column.meaning]
            assert column.meaning


@pytest.mark.parametrize("facts", [versions, hardware])
def test_nothing_tells_whose_machine_it_was(facts):
    found = facts()
    assert found
    assert all(isinstance(key, str) and isinstance(value, str) and value for key, value in found.items())
    told = " ".join(found.values())
    for secret in {socket.gethostname(), platform.node(), str(Path.home()), str(Path.cwd())} - {""}:
        assert secret not in told
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", told)
    # a slash may stand in a processor's name, an absolute path may not
    assert not re.search(r"(^|\s)[/\\~]|[A-Z]:\\", told)


def test_versions_and_hardware_say_what_results_depend_on():
    assert {"python", "prunepeft-ray", "torch", "transformers", "peft", "ray"} <= set(versions())
    assert versions()["python"] == platform.python_version()
    assert {"cpu", "cores", "memory_gib"} <= set(hardware())
    assert int(hardware()["cores"]) >= 1
