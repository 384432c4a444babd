"""Text formatting for users: amounts, durations, one-line errors and file names."""

from __future__ import annotations

import hashlib
import re


def amount(number: float, kind: str) -> str:
    """Format an amount of a resource, such as ``"2 GPUs"``."""
    return f"{number:g} {kind}{'' if number == 1 else 's'}"


def counted(number: int, noun: str) -> str:
    """Format a count with its noun, such as ``"3 nodes"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def last_line(error: Exception) -> str:
    """Return the last line of an error's message, truncated to 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


MAX_STEM = 80
"""Maximum length of file names that are derived from user-given names."""


_PART = r"(?:packaged:)?\w+(?:\.\w+)*"


_FAITHFUL = re.compile(rf"{_PART}(?:\0{_PART})*|(?!packaged-)\w+(?:[.-]\w+)*", re.ASCII)
"""Names whose plain form is unambiguous: with at most single hyphens; ``packaged:NAME`` is reserved."""


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""C0 (except for line breaks and tabs), DEL and C1 control characters; Unicode line separators and bidi controls."""


def file_stem(*names: str) -> str:
    """Derive a short, plain and unique file name from user-given names.

    Args:
        names: Names of models, tasks or the like, of any length and in any script.

    Returns:
        The plain form of the names, with a digest of 8 hexadecimal digits if it is shortened or ambiguous.
    """
    whole = "\0".join(names)
    stem = "-".join(map(plain_name, names))
    if _FAITHFUL.fullmatch(whole) and len(stem) <= MAX_STEM and len(whole) <= MAX_STEM:
        return stem
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{stem[: MAX_STEM - 9].strip('-.')}-{digest}".lstrip("-")


def plain_name(text: str) -> str:
    """Replace characters that not every file system accepts by hyphens, and shorten; the result may not be unique."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text)[:MAX_STEM].strip("-.")


def readable(text: str) -> str:
    """Repair UTF-8 text that Python decoded in another encoding because of the locale."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def one_line(text: object, limit: int = 200) -> str:
    """Return a text on one line of at most ``limit`` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def error_line(error: BaseException) -> str:
    """Return an error's message in one short line."""
    return one_line(getattr(error, "strerror", None) or error, 300) or type(error).__name__


def visible(text: str) -> str:
    """Escape control characters and those that reorder text; line breaks and tabs are kept."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def visible_line(text: str) -> str:
    """Escape line breaks and tabs as well, for text on a single line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def duration_text(seconds: float) -> str:
    """Format a duration, such as ``"41 s"``, ``"7 min"`` or ``"3.2 h"``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
