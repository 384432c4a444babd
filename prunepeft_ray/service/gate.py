"""Validation of data that comes from a cluster or a run's folder, before anything is done with it.

Ids become folder names and parts of commands, so they must be valid ids; places must be absolute paths or URLs. Texts
for people are reduced to one short line that is safe to print.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError

from prunepeft_ray.text import visible_line

LONGEST_TEXT, LONGEST_PLACE, LONGEST_SPEC = 300, 4096, 2**24
_PLACE = re.compile(r"(/|[a-z][a-z0-9+.-]+://)[^\n\t]*")

T = TypeVar("T")


def _text(text: str) -> str:
    line = visible_line(text)
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]}..."


def _place(text: str) -> str:
    if _PLACE.fullmatch(text) is None or visible_line(text) != text:
        raise ValueError("expected an absolute path or a URL")
    return text


Kind = Literal["search", "study"]
State = Literal["starting", "checking", "waiting", "running", "finished", "failed", "stopped"]
JobId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*-[0-9a-f]{4}$", max_length=64)]
Text = Annotated[str, AfterValidator(_text)]
Place = Annotated[str, StringConstraints(max_length=LONGEST_PLACE), AfterValidator(_place)]
Pool = Place | Literal["off"]
SpecText = Annotated[str, StringConstraints(max_length=LONGEST_SPEC)]
Number = Annotated[int, Field(ge=0, le=10**6)]
Priority = Annotated[int, Field(ge=-10, le=10)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Trackers = Annotated[tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,40}$")], ...], Field(max_length=20)]


def read_json(kind: type[T], text: str | bytes) -> T:
    """Read a dataclass whose fields are of the types above; unknown fields are ignored.

    Args:
        kind: The dataclass.
        text: Untrusted JSON.

    Raises:
        ValueError: If it is invalid; the message is one line.
    """
    try:
        found: T = _reader(cast(Hashable, kind)).validate_json(text, strict=True)
        return found
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(visible_line(f"{where}: {first['msg']}" if where else first["msg"])) from error


@functools.cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
