"""Where the token of a Ray cluster comes from. No Ray here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from prunepeft_ray.errors import InputError
from prunepeft_ray.text import one_line

LONGEST_TOKEN = 4096
_VISIBLE_ASCII = re.compile(r"[!-~]+")
DEFAULT_FILE = Path("~/.ray/auth_token")
HOW_TO_SET = "put it into a file of mode 0600 and set RAY_AUTH_TOKEN_PATH to the file's path"


@dataclass(frozen=True)
class Token:
    """A token, which is never printed.

    Args:
        value: The token.
        source: Where it was found, for messages.

    Raises:
        InputError: If it cannot be part of an HTTP header, whose error would print it.
    """

    value: str
    source: str

    def __post_init__(self) -> None:
        if not self.value:
            raise InputError(f"the token from {self.source} is empty; {HOW_TO_SET}")
        if len(self.value) > LONGEST_TOKEN or _VISIBLE_ASCII.fullmatch(self.value) is None:
            raise InputError(
                f"the token from {self.source} holds a space, a line break or another character that no token has, or "
                f"is too long; {HOW_TO_SET}"
            )

    def __repr__(self) -> str:
        return f"Token(from {self.source})"

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that show it."""
        return {"Authorization": f"Bearer {self.value}"}


def find_token(local: Path | None = None) -> Token | None:
    """Find the token where Ray itself would, and that of a cluster of ours on this machine before Ray's default file.

    Args:
        local: File of the token of the cluster that ``prunepeft cluster up`` has started, if that is the one meant.

    Returns:
        The token, or None if none is set.

    Raises:
        InputError: If a file that is named cannot be read, or holds no token.
    """
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return read_token(Path(named), f"RAY_AUTH_TOKEN_PATH ({named})")
    if local is not None:
        return read_token(local, str(local))
    default = DEFAULT_FILE.expanduser()
    return read_token(default, str(DEFAULT_FILE)) if default.is_file() else None


def use_token() -> None:
    """Let Ray in this process show the token that is set, if one is, to the cluster that it joins.

    Raises:
        InputError: If a file that is named cannot be read, or holds no token.
    """
    # Ray reads the token itself, and would print one that is damaged
    if os.environ.get("RAY_AUTH_MODE", "token") == "token" and find_token() is not None:
        os.environ["RAY_AUTH_MODE"] = "token"


def read_token(file: Path, source: str) -> Token:
    """Read a token from a file.

    Args:
        file: The file.
        source: What it is called in messages.

    Raises:
        InputError: If it cannot be read, or holds no token.
    """
    try:
        value = file.expanduser().read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        # the error quotes what it could not read
        raise InputError(f"the token from {source} cannot be read: it is no text; {HOW_TO_SET}") from None
    except OSError as error:
        raise InputError(f"the token from {source} cannot be read: {one_line(error)}; {HOW_TO_SET}") from error
    return Token(value, source)
