import re
from pathlib import Path

from prunepeft_ray.analysis import results_markdown
from prunepeft_ray.analysis.catalog import DERIVED
from prunepeft_ray.results import SCHEMA_VERSION, TABLES

DOCS = Path(__file__).parents[2] / "docs" / "results.md"
REGENERATE = (
    'docs/results.md is out of date; type: python -c "from prunepeft_ray.analysis import results_markdown; '
    "open('docs/results.md', 'w', encoding='utf-8').write(results_markdown())\""
)


def test_the_documentation_of_the_tables_is_up_to_date():
    assert DOCS.read_text(encoding="utf-8") == results_markdown(), REGENERATE


def test_the_documentation_has_every_column_with_type_and_meaning():
    text = results_markdown()
    assert f"version {SCHEMA_VERSION}" in text
    frames = TABLES | {name: frame.columns for name, frame in DERIVED.items()}
    assert len(frames) == len(TABLES) + len(DERIVED)
    for table, columns in frames.items():
        section = text.split(f"## {table}\n")[1].split("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert [line.split("`")[1] for line in rows] == [column.name for column in columns]
        for line, column in zip(rows, columns, strict=True):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert cells == [f"`{column.name}`", str(column.type), column.unit, column.meaning]
            assert column.meaning
