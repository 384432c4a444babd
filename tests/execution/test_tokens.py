"""The token comes from where Ray looks for it, and is never shown."""

import os

import pytest

from prunepeft_ray.errors import InputError
from prunepeft_ray.execution import tokens
from prunepeft_ray.execution.tokens import find_token, use_token


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tokens, "DEFAULT_FILE", tmp_path / "default")


def a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_there_may_be_none():
    assert find_token() is None


def test_the_variable_comes_before_the_file_that_is_named_and_that_before_others(tmp_path, monkeypatch):
    a_file(tmp_path, "default", "d\n")
    assert find_token().value == "d"
    local = a_file(tmp_path, "local", "l\n")
    assert find_token(local).value == "l"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(a_file(tmp_path, "named", "n\n")))
    assert find_token(local).value == "n"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "v")
    assert find_token(local).value == "v"


@pytest.mark.parametrize(("text", "says"), [("  \n", "is empty"), (None, "cannot be read: No such file")])
def test_a_file_that_is_named_must_hold_one(tmp_path, monkeypatch, text, says):
    if text is not None:
        a_file(tmp_path, "named", text)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    with pytest.raises(InputError, match=says):
        find_token()


def test_it_is_not_shown(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert "secret" not in repr(find_token())
    assert find_token().headers == {"Authorization": "Bearer secret"}


def test_ray_is_told_to_use_a_token_only_if_there_is_one(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "")
    monkeypatch.delenv("RAY_AUTH_MODE")
    use_token()
    assert "RAY_AUTH_MODE" not in os.environ
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    use_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    use_token()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
