"""Writing a report: the page, and every table beside it as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prunepeft_ray.analysis.results import Results
from prunepeft_ray.errors import RunError
from prunepeft_ray.report.blocks import Basis, Block, Table
from prunepeft_ray.report.build import Report, build_report
from prunepeft_ray.report.csv_text import to_csv
from prunepeft_ray.report.html import block_id, page_html
from prunepeft_ray.report.terminal_comparison import markdown_rows, plain
from prunepeft_ray.storage import write_whole
from prunepeft_ray.text import error_line, readable


def write_report(runs: Sequence[Results], page: Path, refresh: int | None = None) -> Report:
    """Write a report on the results so far, replacing an earlier one.

    Args:
        runs: One run or study, or several to compare.
        page: Path of the page, ending in ``.html``, on a disk or in a bucket. The tables are written to a folder of
            the same name without the suffix.
        refresh: Seconds after which an open page reloads itself, unless all runs have finished.

    Returns:
        The report.

    Raises:
        InputError: If results were written by a version whose format cannot be read.
        RunError: If something cannot be read or written.
    """
    report = build_report(runs)
    folder = page.with_suffix("")
    for section in report.sections:
        for block in section.blocks:
            for ending, text in _files(block).items():
                _write(folder / f"{block_id(section, block)}.{ending}", text)
    _write(page, page_html(report, folder.name, None if report.finished else refresh))
    return report


def _write(file: Path, text: str) -> None:
    try:
        write_whole(file, readable(text).encode(), replace=True)
    except RunError as error:
        reason = error_line(error.__cause__ or error)
        raise RunError(f"{file} cannot be written ({reason}); choose another place with --output") from error


def _files(block: Block) -> dict[str, str]:
    files = {"csv": to_csv(block.data)}
    if isinstance(block, Table):
        files |= {"md": table_markdown(block), "tex": table_latex(block)}
    return files


def table_markdown(table: Table) -> str:
    """Format a table as Markdown, followed by its caption and the data behind it."""
    rows = [tuple(table.text.columns), *((str(cell) for cell in row) for row in table.text.itertuples(index=False))]
    below = [table.caption, *_basis_lines(table.basis)]
    return f"**{plain(table.title)}**\n\n{markdown_rows(rows)}\n\n" + "\n\n".join(plain(t) for t in below if t) + "\n"


def table_latex(table: Table) -> str:
    """Format a table as LaTeX, for the package booktabs."""
    import pandas as pd

    text = pd.DataFrame({_latex(name): table.text[name].map(_latex) for name in table.text.columns})
    caption = " ".join(_latex(part).rstrip(".") + "." for part in (table.title, table.caption) if part)
    body = text.to_latex(index=False, escape=False, caption=caption, label=f"tab:{table.key}", position="htbp")
    notes = "".join(f"% {' '.join(line.split())}\n" for line in _basis_lines(table.basis))
    return f"% needs \\usepackage{{booktabs}}\n{notes}{body}"


def _basis_lines(basis: Basis) -> tuple[str, ...]:
    return (
        f"n: {basis.n}; seeds: {basis.seeds}; fidelity: {basis.fidelity}; measured on: {basis.split}",
        *basis.marks,
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "≤": r"$\le$",
    "−": "$-$",
    "\n": " ",
}


def _latex(text: object) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in str(text))
