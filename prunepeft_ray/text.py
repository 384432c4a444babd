"""Short texts for people: numbers, durations and errors in a line."""

from __future__ import annotations

import hashlib
import re


def amount(number: float, kind: str) -> str:
    """Write an amount of a resource, such as ``"2 GPUs"``."""
    return f"{number:g} {kind}{'' if number == 1 else 's'}"


def counted(number: int, noun: str) -> str:
    """A number and its noun, as in ``3 nodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def last_line(error: Exception) -> str:
    """Return the last line of an error's message, cut at 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


LONGEST_STEM = 80
"""Most characters of a name of a file that is made of what users have named."""


_PART = r"(?:packaged:)?\w+(?:\.\w+)*"


_FAITHFUL = re.compile(rf"{_PART}(?:\0{_PART})*|(?!packaged-)\w+(?:[.-]\w+)*", re.ASCII)
"""Names whose plain form is no other's: without hyphens, but for a single one; packaged:NAME is ours."""


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""C0 but line breaks and tabs, DEL and C1; separators of lines and overrides of direction of Unicode."""


def file_stem(*names: str) -> str:
    """Name a file after what users have named: short, plain and like no other.

    Args:
        names: Names of models, tasks or the like, of any length, in any script.

    Returns:
        Their plain form, with a digest of 8 hexadecimal digits where that is shorter than they are, or may be that of
        others.
    """
    whole = "\0".join(names)
    stem = "-".join(map(plain_name, names))
    if _FAITHFUL.fullmatch(whole) and len(stem) <= LONGEST_STEM and len(whole) <= LONGEST_STEM:
        return stem
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{stem[: LONGEST_STEM - 9].strip('-.')}-{digest}".lstrip("-")


def plain_name(text: str) -> str:
    """Put hyphens in the place of what not every file system takes, and shorten; two names may become one."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text)[:LONGEST_STEM].strip("-.")


def readable(text: str) -> str:
    """Text in UTF-8 as it was meant, if Python took it for something else because of the locale."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def one_line(error: BaseException) -> str:
    """What an error says, in one short line."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def visible(text: str) -> str:
    """Write control characters, and those that reorder text, as escapes; line breaks and tabs stay."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def visible_line(text: str) -> str:
    """Write line breaks and tabs as escapes too: for what is to be one line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def duration_text(seconds: float) -> str:
    """Say how long something took, such as ``"41 s"``, ``"7 min"`` or ``"3.2 h"``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
