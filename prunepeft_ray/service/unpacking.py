"""Unpacking an untrusted archive from a cluster: bounded in size, and confined to the target folder."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prunepeft_ray.errors import RunError
from prunepeft_ray.storage.files import check_name, write_whole
from prunepeft_ray.text import error_line

MAX_FILES = 200_000
MAX_BYTES = 4 * 2**30
MAX_CHUNK_BYTES = 2**20
"""Maximum size of a header; files are read in pieces of this size."""


def unpack(archive: bytes, target: Path, wanted: Callable[[str], bool]) -> None:
    """Unpack a run's files into a folder; existing files are replaced.

    Args:
        archive: A gzipped tar archive.
        target: The folder.
        wanted: Whether to unpack a file, by its name.

    Raises:
        RunError: If the archive is damaged, too large, or contains anything other than files inside the folder;
            nothing is written then. Also if the folder cannot be written.
    """
    # check the whole archive before writing anything
    for _ in _files(archive, wanted):
        pass
    for name, data in _files(archive, wanted):
        write_whole(target / name, data, replace=True)


def _files(archive: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with _reading(), _Bounded(fileobj=io.BytesIO(archive)) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for count, member in enumerate(tar, 1):
            if count > MAX_FILES:
                raise _refusal(f"it contains more than {MAX_FILES:,} files")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise _refusal(f"'{member.name[:100]}' is not a regular file")
            if not 0 <= member.size <= MAX_BYTES:
                raise _refusal(TOO_LARGE)
            name = check_name(member.name)
            if wanted(name) and (content := tar.extractfile(member)) is not None:
                yield name, b"".join(iter(lambda file=content: file.read(MAX_CHUNK_BYTES), b""))  # type: ignore[misc]


TOO_LARGE = f"it is larger than {MAX_BYTES / 2**30:.0f} GiB unpacked"


def _refusal(why: str) -> RunError:
    return RunError(f"the archive packed by the cluster was rejected: {why}; check the run's folder there")


class _Bounded(gzip.GzipFile):
    """Limits the unpacked size, in total and per read: a few compressed bytes can expand to any amount."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_CHUNK_BYTES or self.tell() + size > MAX_BYTES:
            raise _refusal(TOO_LARGE)
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset > MAX_BYTES:
            raise _refusal(TOO_LARGE)
        return super().seek(offset, whence)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, OverflowError, RecursionError, zlib.error, tarfile.TarError) as error:
        raise RunError(f"the archive arrived incomplete ({error_line(error)}); retry the download") from error
