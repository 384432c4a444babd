"""The token comes from where Ray looks for it, and is never shown."""

import os

import pytest

from prunepeft_ray.cluster import tokens
from prunepeft_ray.cluster.tokens import Token, find_token, use_token
from prunepeft_ray.errors import InputError


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


@pytest.mark.parametrize(
    "value", ["secret\r\nX-Evil: 1", "secret\nmore", "sec ret", "secret\x1b[2J", "sécret", "s" * 5000]
)
def test_a_token_that_can_be_in_no_header_is_refused_and_not_shown(tmp_path, monkeypatch, value):
    monkeypatch.setenv("RAY_AUTH_TOKEN", value)
    for ask in (find_token, use_token, lambda: Token(value, "RAY_AUTH_TOKEN")):
        with pytest.raises(InputError) as refused:
            ask()
        assert "RAY_AUTH_TOKEN contains a space, a line break or another character" in str(refused.value)
        assert not any(part in str(refused.value) for part in (value, "secret", "sec ret"))
        assert refused.value.__cause__ is None
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(a_file(tmp_path, "named", value)))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(InputError) as refused:
        use_token()
    assert value not in str(refused.value)


def test_a_file_that_is_no_text_is_refused_without_a_byte_of_it(tmp_path, monkeypatch):
    (tmp_path / "named").write_bytes(b"\xc3\x28secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    with pytest.raises(InputError, match="it is not text") as refused:
        find_token()
    assert "0xc3" not in str(refused.value)
