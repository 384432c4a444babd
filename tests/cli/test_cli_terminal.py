"""Nothing that comes from a spec, a cluster or a log reaches the terminal as a command, whatever prints it."""

import ast
import io
import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.table import Table
from rich.text import Text
from service_fakes import a_job

from prunepeft_ray.cli import terminal
from prunepeft_ray.cli.progress import show_progress
from prunepeft_ray.cli.service import _jobs_table, _status_table
from prunepeft_ray.cli.study_progress import progress_table
from prunepeft_ray.cli.terminal import Terminal, complain, put, put_json, put_log, say
from prunepeft_ray.events import Event
from prunepeft_ray.execution.study.progress import MethodProgress
from prunepeft_ray.service.status import Status

HOSTILE = "\x1b]0;X\x07\x9b2J\x7f\u202egnp\u2066\u2028\r[red]:smile:"
SHOWN = "\\x1b]0;X\\x07\\x9b2J\\x7f\\u202egnp\\u2066\\u2028\\r[red]:smile:"
ROOM = Path(terminal.__file__).parent


def is_raw(character):
    """Whether a terminal would do something at a character rather than show it."""
    moves = unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return moves or character in "\u2028\u2029" or (unicodedata.category(character) == "Cc" and character not in "\n\t")


def of_rich(text):
    """Leave out the sequences that rich itself writes to a terminal: colours, cursor, erasing."""
    return re.sub(r"\x1b\[(\?25[lh]|[0-9;]*[mAKGH])|(?<=[^\\])\r", "", text)


def on(width=400, force_terminal=False):
    return Terminal(file=io.StringIO(), width=width, force_terminal=force_terminal)


def test_all_commands_print_through_one_file():
    for file in ROOM.glob("*.py"):
        if file.name == "terminal.py":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not {"print", "Console"} & (called | imported), file.name


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_character_of_any_text_is_a_command(text):
    console = on()
    table = Table("name", title=text)
    table.add_row(text)
    table.add_row(Text(text))
    console.print(table)
    console.print(text)
    console.tell(text)
    assert not any(map(is_raw, console.file.getvalue()))


def test_text_is_shown_with_its_escapes_and_is_no_markup():
    console = on()
    console.tell(HOSTILE)
    assert console.file.getvalue() == f"{SHOWN}\n"
    console = on()
    console.tell("one\ntwo\tthree")
    assert console.file.getvalue() == "one\\ntwo\\tthree\n"


def test_columns_are_as_wide_as_what_is_shown():
    console = on()
    table = Table("a", "b")
    table.add_row(HOSTILE, "x")
    table.add_row("y", "z")
    console.print(table)
    assert len({len(line) for line in console.file.getvalue().splitlines()}) == 1


@pytest.mark.parametrize("prints", [say, put, put_log, complain])
def test_lines_are_safe(capsys, prints):
    prints(HOSTILE)
    found = "".join(capsys.readouterr())
    assert SHOWN in found
    assert not any(map(is_raw, found))


def test_an_error_is_one_line_whatever_is_in_it(capsys):
    complain("no such file: a\nerror: b")
    assert capsys.readouterr().err == "error: no such file: a\\nerror: b\n"


def test_colours_of_a_log_are_left_out_and_other_commands_are_shown(capsys):
    put_log("\x1b[36m(worker)\x1b[0m done \x1b[2J")
    assert capsys.readouterr().out == "(worker) done \\x1b[2J\n"


def test_json_is_safe_and_says_the_same(capsys):
    put_json({"text": HOSTILE, "other": "é训"}, None)
    found = capsys.readouterr().out
    assert "é训" in found
    assert not any(map(is_raw, found))
    assert json.loads(found) == {"text": HOSTILE, "other": "é训"}


def test_jobs_and_status_of_anybody_are_safe():
    said = Status(state="failed", progress=HOSTILE, best=HOSTILE, waits_for=HOSTILE, error=HOSTILE)
    job = a_job(state="failed", status=said)
    for field in ("name", "owner", "output", "version", "submitted_at"):
        object.__setattr__(job.submission, field, HOSTILE)
    console = on()
    console.print(_jobs_table([job]))
    console.print(_status_table(job))
    assert SHOWN in console.file.getvalue()
    assert not any(map(is_raw, console.file.getvalue()))


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_of_jobs_with_any_label_is_safe(is_terminal):
    console = on(force_terminal=is_terminal)
    with show_progress(console) as emit:
        emit(Event("message", HOSTILE))
        emit(Event("start", HOSTILE, "round", "a"))
        emit(Event("progress", HOSTILE, "round", "a", done=1, total=2))
        emit(Event("end", HOSTILE, "round", "a"))
    found = of_rich(console.file.getvalue())
    assert SHOWN in found
    assert not any(map(is_raw, found))


def test_a_live_table_of_methods_with_any_name_is_safe():
    row = MethodProgress(HOSTILE, 1, 0, 1, 2, 0, {("m", HOSTILE): 0.5}, 0.5, None)
    console = on(force_terminal=True)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        live.update(progress_table([row]), refresh=True)
    found = of_rich(console.file.getvalue())
    assert SHOWN in found
    assert not any(map(is_raw, found))
