"""Ids and names of search jobs."""

from __future__ import annotations

import getpass
import os
import re
import secrets
from collections.abc import Collection

from prunepeft_ray.errors import InputError, unknown

_ID = re.compile(r"[a-z0-9][a-z0-9-]*-[0-9a-f]{4}")


_SUFFIX_DIGITS = 4


_LONGEST_NAME = 40


def new_id(name: str) -> str:
    """Make an id for a search job of that name."""
    return f"{name}-{secrets.token_hex(_SUFFIX_DIGITS // 2)}"


def clean_name(name: str) -> str:
    """Make a name that can be part of an id: small letters, digits and hyphens.

    Raises:
        InputError: If nothing is left of it.
    """
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    if not cleaned:
        raise InputError(f"name '{name}': expected some letters or digits")
    return cleaned


def is_id(text: str) -> bool:
    """Whether a text looks like the id of a search job."""
    return _ID.fullmatch(text) is not None


def pick(ids: Collection[str], wanted: str) -> str:
    """Find the id of a search job by a beginning of it that is no other's, or by the id of an attempt.

    Raises:
        InputError: If there is none, or several.
    """
    whole = re.sub(r"\.\d+$", "", wanted)
    if whole in ids:
        return whole
    found = sorted(job for job in ids if whole and job.startswith(whole))
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"'{wanted}' may be {' or '.join(found)}: give more of it")
    if not ids:
        raise InputError(
            f"there is no search job '{wanted}': the cluster knows of none since its head node started; "
            "'prunepeft resume DIR --address A' goes on with a run from its folder"
        )
    raise unknown("search job", wanted, ids)


def user_name() -> str:
    """Return the name of this machine's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a container's user may have no name
        return f"user-{os.getuid()}"
