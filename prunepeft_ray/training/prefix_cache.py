"""Hidden states of a frozen prefix on disk, shared by all processes of a machine."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prunepeft_ray.training.encoding import Indices

SUFFIX = ".states"
CHECKSUM = np.dtype(np.uint32)

Bytes = npt.NDArray[np.uint8]


class StateFile:
    """The hidden states of a split's examples in one memory-mapped file, which any number of processes fill and read.

    The file has a checksum per example, then the examples' states. An example counts as present if its checksum is
    right, so there is nothing to lock: those not yet written, half written or damaged are missing, and processes that
    write the same example at the same time write the same bytes.

    Args:
        file: The file; created or enlarged if necessary.
        lengths: Number of tokens per example, shape (examples,).
        token_bytes: Size of one token's state.

    Raises:
        OSError: If the file cannot be written or mapped.
    """

    def __init__(self, file: Path, lengths: Indices, token_bytes: int) -> None:
        self._file = file
        self._starts = np.concatenate([[0], np.cumsum(lengths)]) * token_bytes + CHECKSUM.itemsize * len(lengths)
        size = int(self._starts[-1])
        with file.open("a+b") as stream:
            if stream.seek(0, os.SEEK_END) < size:
                stream.truncate(size)
            # the least recently used file is the first to be removed
            os.utime(stream.fileno())
            self._bytes: Bytes = np.memmap(stream, np.uint8, "r", shape=(size,))
        self._checksums = self._bytes[: CHECKSUM.itemsize * len(lengths)].view(CHECKSUM)
        self._verified = np.zeros(len(lengths), dtype=bool)

    def read(self, example: int) -> Bytes | None:
        """Return a copy of an example's states; None if they are missing or damaged."""
        states = np.array(self._bytes[self._starts[example] : self._starts[example + 1]])
        # bytes that were once right stay right
        if not self._verified[example]:
            self._verified[example] = self._checksums[example] == _checksum(states)
        return states if self._verified[example] else None

    def write(self, states: Mapping[int, Bytes]) -> None:
        """Write the states of some examples. On a full disk, or if the file has been removed, this does nothing."""
        try:
            # writing to mapped memory would kill the process when the disk is full
            with self._file.open("r+b") as stream:
                for example, data in states.items():
                    stream.seek(int(self._starts[example]))
                    stream.write(data.data)
                    stream.seek(CHECKSUM.itemsize * example)
                    stream.write(np.array([_checksum(data)], CHECKSUM).data)
        except OSError:
            pass


def _checksum(states: Bytes) -> int:
    # the checksum of what was never written is 0
    return zlib.crc32(states.data) or 1


class PrefixCache:
    """A folder of :class:`StateFile`; the least recently used ones are removed to make room.

    Args:
        folder: The folder; created if necessary, readable by its owner only, since states reveal texts.
        limit: Maximum size of all files together, in bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit

    def open(self, key: str, lengths: Indices, token_bytes: int) -> StateFile | None:
        """Open the file for a split, or create it.

        Args:
            key: Digest of everything that the states depend on.
            lengths: Number of tokens per example, shape (examples,).
            token_bytes: Size of one token's state.

        Returns:
            The file; None if it would exceed the limit or half of the free space by itself, or the folder cannot be
            used.
        """
        size = int(lengths.sum()) * token_bytes + CHECKSUM.itemsize * len(lengths)
        if size > self._limit:
            return None
        file = self._folder / f"{key}{SUFFIX}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(file, size)
            # on a full disk, the run's own results would not fit either
            if not file.exists() and size > shutil.disk_usage(self._folder).free // 2:
                return None
            return StateFile(file, lengths, token_bytes)
        except OSError:
            return None

    def _make_room(self, file: Path, size: int) -> None:
        """Remove the least recently used files until another one fits; processes that have one mapped keep it."""
        others = {}
        for other in set(self._folder.glob(f"*{SUFFIX}")) - {file}:
            # another process may just have removed it
            with suppress(FileNotFoundError):
                others[other] = other.stat()
        total = size + sum(found.st_size for found in others.values())
        for other, found in sorted(others.items(), key=lambda pair: pair[1].st_mtime):
            if total <= self._limit:
                break
            other.unlink(missing_ok=True)
            total -= found.st_size
