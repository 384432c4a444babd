"""Finding the token of a Ray cluster. Does not import Ray."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from prunepeft_ray.errors import InputError
from prunepeft_ray.text import error_line

LONGEST_TOKEN = 4096
_VISIBLE_ASCII = re.compile(r"[!-~]+")
DEFAULT_FILE = Path("~/.ray/auth_token")
HOW_TO_SET = "put it in a file with mode 0600 and set RAY_AUTH_TOKEN_PATH to the file's path"


@dataclass(frozen=True)
class Token:
    """A token; its value is never printed.

    Args:
        value: The secret.
        source: Where it was found, for messages.

    Raises:
        InputError: If the value cannot be part of an HTTP header; the HTTP library's own error would print it.
    """

    value: str
    source: str

    def __post_init__(self) -> None:
        if not self.value:
            raise InputError(f"the token from {self.source} is empty; {HOW_TO_SET}")
        if len(self.value) > LONGEST_TOKEN or _VISIBLE_ASCII.fullmatch(self.value) is None:
            raise InputError(
                f"the token from {self.source} contains a space, a line break or another character not allowed in a "
                f"token, or is too long; {HOW_TO_SET}"
            )

    def __repr__(self) -> str:
        return f"Token(from {self.source})"

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that carry the token."""
        return {"Authorization": f"Bearer {self.value}"}


def find_token(local: Path | None = None) -> Token | None:
    """Find the token where Ray itself would; the local cluster's token takes precedence over Ray's default file.

    Args:
        local: Token file of the cluster that ``prunepeft cluster up`` started, if that is the cluster to use.

    Returns:
        The token, or None if none is set.

    Raises:
        InputError: If a configured file cannot be read, or contains no valid token.
    """
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return read_token(Path(named), f"RAY_AUTH_TOKEN_PATH ({named})")
    if local is not None:
        return read_token(local, str(local))
    default = DEFAULT_FILE.expanduser()
    return read_token(default, str(DEFAULT_FILE)) if default.is_file() else None


def use_token(local: Path | None = None) -> None:
    """Make Ray in this process present the configured token, if there is one, to the cluster that it joins.

    Args:
        local: As for :func:`find_token`.

    Raises:
        InputError: If a configured file cannot be read, or contains no valid token.
    """
    # checked here since Ray, which reads the token itself, would print a malformed one
    if os.environ.get("RAY_AUTH_MODE", "token") == "token" and (found := find_token(local)) is not None:
        os.environ["RAY_AUTH_MODE"] = "token"
        if local is not None and found.source == str(local):
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(local)


def read_token(file: Path, source: str) -> Token:
    """Read a token from a file.

    Args:
        file: The token file.
        source: Name of the file in messages.

    Raises:
        InputError: If the file cannot be read, or contains no valid token.
    """
    try:
        value = file.expanduser().read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        # the original error quotes the content
        raise InputError(f"the token from {source} cannot be read: it is not text; {HOW_TO_SET}") from None
    except OSError as error:
        raise InputError(f"the token from {source} cannot be read: {error_line(error)}; {HOW_TO_SET}") from error
    return Token(value, source)
