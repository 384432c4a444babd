"""Paths on a disk or in a bucket, with one interface: naming, listing, reading and writing."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.text import error_line

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""URL schemes of buckets, and the extra that each requires."""
LOCAL = ("file", "local")
READERS = 16
CONNECT_SECONDS, ANSWER_SECONDS, TRIES = 5, 10, 2
"""Timeouts and number of tries for a bucket; the libraries' own defaults amount to minutes."""
PUT_SECONDS, PUT_RATE = 20.0, 50_000
"""Time allowed for an upload to a bucket: a fixed number of seconds, plus one for this many bytes."""

T = TypeVar("T")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_HALF_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")


def user_state() -> Path:
    """Return the user's state folder: ``$PRUNEPEFT_STATE``, or one in ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    own = os.environ.get("PRUNEPEFT_STATE")
    base = Path(own) if own else Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "prunepeft"
    return base.expanduser().absolute()


def user_cache() -> Path:
    """Return the user's cache folder: one in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "prunepeft"
    return base.expanduser().absolute()


def open_path(text: str | Path) -> Path:
    """Turn the user's text into a path: a local one, or a URL supported by fsspec, such as ``s3://bucket/run``.

    Args:
        text: A path or a URL.

    Returns:
        A ``pathlib.Path``, or for a URL a ``upath.UPath``, which has the same methods.

    Raises:
        InputError: If the scheme is unknown, its library is not installed, or the URL names no bucket.
    """
    written = str(text)
    found = _URL.match(written)
    if found is None:
        _check_not_url(written)
        return Path(written)
    scheme, rest = found[1].lower(), written[found.end() :].rstrip("/")
    if scheme in LOCAL:
        return Path(written[found.end() :])
    if "@" in rest.partition("/")[0]:
        # they would end up in specs and logs, and be visible in process lists
        raise InputError(
            f"{scheme}://...@{rest.partition('@')[2]}: credentials do not belong in a URL; set them where the "
            "cloud provider's tools look for them, such as AWS_ACCESS_KEY_ID"
        )
    if scheme in EXTRAS and not rest.partition("/")[0]:
        raise InputError(f"{written} names no bucket: expected {scheme}://BUCKET/FOLDER")
    return _open_url(scheme, f"{scheme}://{rest}")


def _check_not_url(written: str) -> None:
    """Reject text that was meant to be a URL, including ``s3:/bucket``, which pathlib turns a URL into."""
    half = _HALF_URL.match(written)
    if "://" in written or half:
        scheme = half[1].lower() if half and half[1].lower() in EXTRAS else "s3"
        raise InputError(
            f"{written} is neither a path nor a URL: expected a folder or a URL such as {scheme}://BUCKET/FOLDER"
        )


def _open_url(scheme: str, url: str) -> Path:
    from fsspec.registry import known_implementations
    from upath import UPath

    try:
        path = UPath(url, **_options(scheme))
        store = path.fs
    except ImportError as error:
        extra = f"pip install 'prunepeft-ray[{EXTRAS[scheme]}]'" if scheme in EXTRAS else error_line(error)
        raise InputError(f"{url}: support for {scheme}:// is not installed: {extra}") from error
    except ValueError as error:
        near = difflib.get_close_matches(scheme, known_implementations, n=1)
        hint = f"did you mean {near[0]}://? " if near and near[0] != scheme else ""
        raise InputError(
            f"{url}: unknown scheme '{scheme}'; {hint}expected a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        ) from error
    except OSError as error:
        raise InputError(f"{url} cannot be opened: {error_line(error)}") from error
    if EXTRAS.get(scheme) == "s3":
        # in addition to botocore's own retries
        store.retries = TRIES
    return cast(Path, path)


def _options(scheme: str) -> dict[str, Any]:
    from fsspec.config import conf

    options: dict[str, Any] = {"use_listings_cache": False} if scheme in EXTRAS else {}
    if EXTRAS.get(scheme) == "s3":
        patience = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": TRIES},
        }
        options["config_kwargs"] = patience | conf.get("s3", {}).get("config_kwargs", {})
    return options


def is_local(path: Path) -> bool:
    """Whether a path is in this machine's file system, including shared folders."""
    return isinstance(path, Path)


def is_file(path: Path) -> bool:
    """Whether a path is an existing file.

    Raises:
        RunError: If the bucket cannot be reached.
        InputError: If there is no such bucket.
    """
    return path.is_file() if is_local(path) else _kind(path) == "file"


def is_folder(path: Path) -> bool:
    """Whether a path is an existing folder; in a bucket, whether there are objects below it.

    Raises:
        RunError: If the bucket cannot be reached.
        InputError: If there is no such bucket.
    """
    return path.is_dir() if is_local(path) else _kind(path) == "directory"


def _kind(path: Path) -> str | None:
    with reaching(path):
        try:
            found: str = store_of(path).info(key_of(path))["type"]
        except FileNotFoundError as error:
            _check_bucket(path, error)
            return None
        return found


def check_within(path: Path, folder: Path) -> None:
    """Check that a path within a folder does not lead out of it through a symbolic link.

    Args:
        path: A path within the folder.
        folder: The folder, which may itself be a link.

    Raises:
        InputError: If a link leads out of the folder, or links form a loop.
    """
    if not is_local(path):
        return
    try:
        leads_out = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        leads_out = True
    if leads_out:
        raise InputError(f"{path} is a symbolic link that leads out of {folder}: replace it by a copy of its target")


def names(folder: Path) -> list[str]:
    """Return the names of a folder's entries, sorted; empty if the folder does not exist.

    Raises:
        OSError: If a local folder cannot be read.
        RunError: If the bucket cannot be reached.
        InputError: If there is no such bucket.
    """
    if not is_local(folder):
        return sorted(_listed(folder))
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def files_under(folder: Path) -> list[str]:
    """Return the relative names of all files in a folder and its subfolders, sorted; empty if it does not exist.

    Raises:
        OSError: If a local folder cannot be read.
        RunError: If the bucket cannot be reached.
    """
    if is_local(folder):
        return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    key = key_of(folder).rstrip("/")
    with reaching(folder):
        found = store_of(folder).find(key)
    return sorted(name[len(key) + 1 :] for name in found if name.startswith(f"{key}/"))


def stamps(folder: Path) -> dict[str, str]:
    """Return a stamp for each entry of a folder, sorted by name, which changes when a file is replaced.

    A stamp consists of the size and the time of the last modification, or a digest.

    Raises:
        OSError: If a local folder cannot be read.
        RunError: If the bucket cannot be reached.
        InputError: If there is no such bucket.
    """
    if not is_local(folder):
        found = {name: f"{one.get('size')} {_changed(one)}" for name, one in _listed(folder).items()}
    elif folder.is_dir():
        with os.scandir(folder) as entries:
            found = {entry.name: _stamp(entry) for entry in entries}
    else:
        found = {}
    return dict(sorted(found.items()))


def _stamp(entry: os.DirEntry[str]) -> str:
    try:
        facts = entry.stat()
    except FileNotFoundError:
        # deleted since it was listed
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _changed(facts: dict[str, Any]) -> Any:
    known = ("ETag", "etag", "LastModified", "mtime", "created")
    return next((facts[key] for key in known if facts.get(key) is not None), None)


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """A bucket's information on the objects in a folder, by name."""
    key = key_of(folder)
    with reaching(folder):
        try:
            found = store_of(folder).ls(key, detail=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            _check_bucket(folder, error)
            return {}
    keys = {one["name"].rstrip("/"): one for one in found}
    # a bucket may contain an empty object with the folder's own name
    return {name.rsplit("/", 1)[-1]: one for name, one in keys.items() if name.strip("/") != key.strip("/")}


def read_bytes(file: Path) -> bytes:
    """Read a file.

    Raises:
        OSError: If the file does not exist, or a local one cannot be read.
        RunError: If the bucket cannot be reached.
    """
    if is_local(file):
        return file.read_bytes()
    with reaching(file):
        data: bytes = store_of(file).cat_file(key_of(file))
        return data


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file and create its folder; a local file is not written atomically.

    Raises:
        OSError: If the file cannot be written.
    """
    if is_local(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return
    with as_os_error():
        put_object(file, data)


def put_object(file: Path, data: bytes, mode: str = "overwrite") -> None:
    """Upload a file to a bucket in a single operation.

    Args:
        file: The file; not a local one.
        data: The content.
        mode: ``overwrite``, or ``create`` if it must not exist yet.

    Raises:
        FileExistsError: If the file exists, but must not.
        OSError: If it takes too long. The library may raise other errors.
    """
    store, key = store_of(file), key_of(file)
    if not store.async_impl:
        store.pipe_file(key, data, mode=mode)
        return
    from fsspec.asyn import sync

    # without a timeout, a server that accepts the connection but never responds would block forever
    seconds = PUT_SECONDS + len(data) / PUT_RATE
    sync(store.loop, store._pipe_file, key, data, mode=mode, timeout=seconds)


def remove_file(file: Path) -> None:
    """Remove a file if it exists.

    Raises:
        OSError: If the file cannot be removed.
    """
    if is_local(file):
        file.unlink(missing_ok=True)
        return
    with as_os_error(), suppress(FileNotFoundError):
        store_of(file).rm_file(key_of(file))


def map_files(function: Callable[[Path], T], files: Iterable[Path]) -> list[T]:
    """Apply a function to many files, in order; files in a bucket are processed concurrently."""
    files = list(files)
    if all(is_local(file) for file in files):
        return [function(file) for file in files]
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(function, files))


def store_of(path: Path) -> Any:
    """Return the fsspec file system of a path that is not local."""
    return cast(Any, path).fs


def key_of(path: Path) -> str:
    """Return the key of a path in the file system of :func:`store_of`."""
    return str(cast(Any, path).path)


@contextmanager
def as_os_error() -> Iterator[None]:
    """Turn any error of a bucket's library into an OSError with a message of one line."""
    try:
        yield
    except (OSError, InputError, RunError):
        raise
    except Exception as error:
        raise OSError(error_line(error)) from error


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Report a bucket that does not respond or denies access in one clear line.

    Raises:
        RunError: If any error other than a missing file is raised in the context.
    """
    try:
        with as_os_error():
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(
            f"{path} cannot be reached ({error_line(error)}); all finished jobs are safe: check network, credentials "
            "and permissions, then retry the command, or run 'prunepeft resume' if a search had already started"
        ) from error


def _check_bucket(path: Path, error: OSError) -> None:
    """Raise an error if the bucket itself, rather than a file, is missing."""
    if error_code(error) == "NoSuchBucket":
        raise InputError(f"{path}: there is no such bucket; create it, or correct its name") from error


def error_code(error: BaseException) -> str:
    """Return the server's code of an error from s3fs, or an empty string."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
