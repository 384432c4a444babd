"""Bounded parsing of untrusted YAML and JSON, so that small files cannot take minutes or gigabytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from prunepeft_ray.storage.paths import is_local, key_of, reaching, read_bytes, store_of
from prunepeft_ray.text import error_line

MAX_BYTES = 4 * 2**20
"""Maximum size of a file of settings or records."""
MAX_DEPTH = 64
"""Maximum nesting depth of values."""
MAX_VALUES = 100_000
"""Maximum number of values in a file; YAML aliases count as if they were written out."""
MAX_NUMBER = 64
"""Maximum number of characters in a YAML number or date."""

# safe_load passes on errors of its constructors, such as for !!bool x, the date 2024-13-45 or the number 1:2:....3
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError, OverflowError)


def read_small(file: Path, limit: int = MAX_BYTES) -> bytes:
    """Read a file of limited size.

    Args:
        file: The file.
        limit: Maximum size in bytes.

    Raises:
        ValueError: If the file is larger.
        OSError: If the file does not exist, or a local one cannot be read.
        RunError: If the bucket cannot be reached.
    """
    if is_local(file):
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    else:
        with reaching(file):
            size = store_of(file).size(key_of(file))
        _check_size(size, limit)
        data = read_bytes(file)
    _check_size(len(data), limit)
    return data


def parse_yaml(text: str) -> Any:
    """Parse YAML with the safe loader.

    Raises:
        ValueError: If the text is not valid YAML or exceeds a bound; the message is one line.
    """
    loader = None
    try:
        loader = _BoundedLoader(text)
        return loader.get_single_data()
    except _YAML_ERRORS as error:
        raise ValueError(error_line(error)) from error
    finally:
        if loader is not None:
            loader.dispose()


def parse_json(data: str | bytes) -> Any:
    """Parse JSON; bytes are decoded as UTF-8.

    Raises:
        ValueError: If the data is not valid JSON or exceeds a bound; the message is one line.
    """
    _check_size(len(data), MAX_BYTES)
    try:
        value = json.loads(data.decode() if isinstance(data, bytes) else data)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    _check_bounds(value)
    return value


class _BoundedLoader(yaml.SafeLoader):
    """The safe loader, with bounds that are checked before anything is constructed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._values
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(_too_deep())
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise yaml.YAMLError(f"the alias *{event.anchor} refers to a value that contains it")
            self._values += self._sizes.get(str(event.anchor), 0)
        else:
            self._values += 1
        if self._values > MAX_VALUES:
            raise yaml.YAMLError(_too_many())
        node = super().compose_node(parent, index)
        if event.anchor is not None:
            self._sizes[event.anchor] = self._values - before
        self._depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if node.tag in _NUMBERS and len(value) > MAX_NUMBER:
            raise yaml.YAMLError(f"a number of {len(value):,} characters; expected at most {MAX_NUMBER}")
        return value


_NUMBERS = tuple(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"larger than {limit / 2**20:.0f} MiB")


def _check_bounds(value: Any) -> None:
    level, values = [value], 0
    for _ in range(MAX_DEPTH):
        values += len(level)
        if values > MAX_VALUES:
            raise ValueError(_too_many())
        inside = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [item for items in inside for item in items]
        if not level:
            return
    raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"nested deeper than {MAX_DEPTH} levels"


def _too_many() -> str:
    return f"more than {MAX_VALUES:,} values, including those repeated by aliases"
