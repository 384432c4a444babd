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
    """Create an id for a search job with this name."""
    return f"{name}-{secrets.token_hex(_SUFFIX_DIGITS // 2)}"


def clean_name(name: str) -> str:
    """Reduce a name to one that can be part of an id: lower-case letters, digits and hyphens.

    Raises:
        InputError: If nothing is left.
    """
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    if not cleaned:
        raise InputError(f"name '{name}': expected at least one letter or digit")
    return cleaned


def is_id(text: str) -> bool:
    """Whether a text looks like the id of a search job."""
    return _ID.fullmatch(text) is not None


def pick(ids: Collection[str], wanted: str) -> str:
    """Find the id of a search job by an unambiguous prefix, or by the id of one of its attempts.

    Raises:
        InputError: If no id matches, or several do.
    """
    whole = re.sub(r"\.\d+$", "", wanted)
    if whole in ids:
        return whole
    found = sorted(job for job in ids if whole and job.startswith(whole))
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"'{wanted}' is ambiguous: {' or '.join(found)}")
    if not ids:
        raise InputError(
            f"no search job '{wanted}': none has been submitted since the cluster's head node started; "
            "resume a run from its folder with 'prunepeft resume DIR --address A'"
        )
    raise unknown("search job", wanted, ids)


def user_name() -> str:
    """Return the name of this machine's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a container's user may have no name
        return f"user-{os.getuid()}"
