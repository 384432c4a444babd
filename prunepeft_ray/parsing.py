"""YAML and JSON of unknown origin, read within bounds: no file of some bytes takes minutes and gigabytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from prunepeft_ray.storage.paths import is_local, key_of, reaching, read_bytes, store_of
from prunepeft_ray.text import one_line

LARGEST = 4 * 2**20
"""Most bytes of a file of settings or notes."""
DEEPEST = 64
"""Most levels of values within each other."""
MOST_VALUES = 100_000
"""Most values of a file; what a YAML alias repeats is counted as if it were written out."""
LONGEST_NUMBER = 64
"""Most characters of what YAML takes for a number or a date."""

# safe_load lets errors of its constructors through: of !!bool x, of the date 2024-13-45, of the number 1:2:....3
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError, OverflowError)


def read_small(file: Path, most: int = LARGEST) -> bytes:
    """Read a file that must not be large.

    Args:
        file: The file.
        most: Most bytes that it may have.

    Raises:
        ValueError: If it has more.
        OSError: If it is not there, or a local one cannot be read.
        RunError: If the bucket cannot be reached.
    """
    if is_local(file):
        with file.open("rb") as stream:
            data = stream.read(most + 1)
    else:
        with reaching(file):
            size = store_of(file).size(key_of(file))
        _check_size(size, most)
        data = read_bytes(file)
    _check_size(len(data), most)
    return data


def parse_yaml(text: str) -> Any:
    """Read YAML with the safe loader.

    Raises:
        ValueError: One line, if it is no YAML or exceeds a bound.
    """
    loader = None
    try:
        loader = _BoundedLoader(text)
        return loader.get_single_data()
    except _YAML_ERRORS as error:
        raise ValueError(one_line(error)) from error
    finally:
        if loader is not None:
            loader.dispose()


def parse_json(data: str | bytes) -> Any:
    """Read JSON; bytes are taken for UTF-8.

    Raises:
        ValueError: One line, if it is no JSON or exceeds a bound.
    """
    _check_size(len(data), LARGEST)
    try:
        value = json.loads(data.decode() if isinstance(data, bytes) else data)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    _check_bounds(value)
    return value


class _BoundedLoader(yaml.SafeLoader):
    """The safe loader, which gives up at a bound before anything is built."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._values
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.YAMLError(_too_deep())
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise yaml.YAMLError(f"the alias *{event.anchor} stands within what it names")
            self._values += self._sizes.get(str(event.anchor), 0)
        else:
            self._values += 1
        if self._values > MOST_VALUES:
            raise yaml.YAMLError(_too_many())
        node = super().compose_node(parent, index)
        if event.anchor is not None:
            self._sizes[event.anchor] = self._values - before
        self._depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if node.tag in _NUMBERS and len(value) > LONGEST_NUMBER:
            raise yaml.YAMLError(f"a number of {len(value):,} characters; expected at most {LONGEST_NUMBER}")
        return value


_NUMBERS = tuple(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"larger than {most / 2**20:.0f} MiB")


def _check_bounds(value: Any) -> None:
    level, values = [value], 0
    for _ in range(DEEPEST):
        values += len(level)
        if values > MOST_VALUES:
            raise ValueError(_too_many())
        inside = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [item for items in inside for item in items]
        if not level:
            return
    raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"nested deeper than {DEEPEST} levels"


def _too_many() -> str:
    return f"more than {MOST_VALUES:,} values, counted with what aliases repeat"
