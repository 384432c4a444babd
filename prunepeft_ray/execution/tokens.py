"""Where the token of a Ray cluster comes from. No Ray here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from prunepeft_ray.errors import InputError
from prunepeft_ray.paths import one_line

DEFAULT_FILE = Path("~/.ray/auth_token")
HOW_TO_SET = "put it into a file of mode 0600 and set RAY_AUTH_TOKEN_PATH to the file's path"


@dataclass(frozen=True)
class Token:
    """A token, which is never printed.

    Args:
        value: The token.
        source: Where it was found, for messages.
    """

    value: str
    source: str

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
        InputError: If a file that is named cannot be read, or is empty.
    """
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return _read(Path(named), f"RAY_AUTH_TOKEN_PATH ({named})")
    if local is not None:
        return _read(local, str(local))
    default = DEFAULT_FILE.expanduser()
    return _read(default, str(DEFAULT_FILE)) if default.is_file() else None


def use_token() -> None:
    """Let Ray in this process show the token that is set, if one is, to the cluster that it joins.

    Raises:
        InputError: If a file that is named cannot be read, or is empty.
    """
    if "RAY_AUTH_MODE" not in os.environ and find_token() is not None:
        os.environ["RAY_AUTH_MODE"] = "token"


def _read(file: Path, source: str) -> Token:
    try:
        value = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the token from {source} cannot be read: {one_line(error)}; {HOW_TO_SET}") from error
    if not value:
        raise InputError(f"the token from {source} is empty; {HOW_TO_SET}")
    return Token(value, source)
