"""Files and folders on a disk or in a bucket alike: how they are named, looked at, read and written."""

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
from prunepeft_ray.text import one_line

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Schemes of buckets, and the extra that each needs."""
LOCAL = ("file", "local")
READERS = 16
CONNECT_SECONDS, ANSWER_SECONDS, TRIES = 5, 10, 2
"""How long and how often a bucket is asked; the libraries' own patience is minutes."""
PUT_SECONDS, PUT_RATE = 20.0, 50_000
"""How long a file may take on its way into a bucket, and how many bytes more per second."""

T = TypeVar("T")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_HALF_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")


def user_state() -> Path:
    """Where this user's state is kept: ``$PRUNEPEFT_STATE``, else below ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    own = os.environ.get("PRUNEPEFT_STATE")
    base = Path(own) if own else Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "prunepeft"
    return base.expanduser().absolute()


def open_path(text: str | Path) -> Path:
    """Turn what a user wrote into a path: a local one, or a URL that fsspec knows, such as ``s3://bucket/run``.

    Args:
        text: A path or a URL.

    Returns:
        A ``pathlib.Path``, or for a URL a ``upath.UPath``, which has the same methods.

    Raises:
        InputError: If the scheme is unknown, its library is not installed, or there is no bucket in it.
    """
    written = str(text)
    found = _URL.match(written)
    if found is None:
        _check_no_url(written)
        return Path(written)
    scheme, rest = found[1].lower(), written[found.end() :].rstrip("/")
    if scheme in LOCAL:
        return Path(written[found.end() :])
    if "@" in rest.partition("/")[0]:
        # they would be kept in specs and logs, and shown in lists of processes
        raise InputError(
            f"{scheme}://...@{rest.partition('@')[2]}: credentials do not belong into a URL; set them where the "
            "cloud's own tools look for them, such as AWS_ACCESS_KEY_ID"
        )
    if scheme in EXTRAS and not rest.partition("/")[0]:
        raise InputError(f"{written} names no bucket: expected {scheme}://BUCKET/FOLDER")
    return _open_url(scheme, f"{scheme}://{rest}")


def _check_no_url(written: str) -> None:
    """Refuse what was meant as a URL; pathlib makes ``s3:/bucket`` of one."""
    half = _HALF_URL.match(written)
    if "://" in written or half:
        scheme = half[1].lower() if half and half[1].lower() in EXTRAS else "s3"
        raise InputError(f"{written} is no path and no URL: expected a folder, or text like {scheme}://BUCKET/FOLDER")


def _open_url(scheme: str, url: str) -> Path:
    from fsspec.registry import known_implementations
    from upath import UPath

    try:
        path = UPath(url, **_options(scheme))
        store = path.fs
    except ImportError as error:
        extra = f"pip install 'prunepeft-ray[{EXTRAS[scheme]}]'" if scheme in EXTRAS else one_line(error)
        raise InputError(f"{url}: what {scheme}:// needs is not installed: {extra}") from error
    except ValueError as error:
        near = difflib.get_close_matches(scheme, known_implementations, n=1)
        hint = f"did you mean {near[0]}://? " if near and near[0] != scheme else ""
        raise InputError(
            f"{url}: unknown scheme '{scheme}'; {hint}expected a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        ) from error
    except OSError as error:
        raise InputError(f"{url} cannot be opened: {one_line(error)}") from error
    if EXTRAS.get(scheme) == "s3":
        # on top of botocore's own tries
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
    """Whether a path lies in this machine's file system, shared folders among it."""
    return isinstance(path, Path)


def is_file(path: Path) -> bool:
    """Whether there is a file.

    Raises:
        RunError: If the bucket cannot be reached.
        InputError: If there is no such bucket.
    """
    return path.is_file() if is_local(path) else _kind(path) == "file"


def is_folder(path: Path) -> bool:
    """Whether there is a folder; in a bucket, anything below that name.

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
    """Make sure that no symbolic link leads from a folder's file or folder to somewhere else.

    Args:
        path: What lies in the folder.
        folder: The folder; it may be a link itself.

    Raises:
        InputError: If a link leads out, or in a circle.
    """
    if not is_local(path):
        return
    try:
        leads_out = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        leads_out = True
    if leads_out:
        raise InputError(f"{path} is a symbolic link that leads out of {folder}: put what it names there instead")


def names(folder: Path) -> list[str]:
    """Names of what is in a folder, sorted; none if there is no folder.

    Raises:
        OSError: If a local folder cannot be looked into.
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
    """Names of all files in a folder and its folders, relative to it, in order; none if it is not there.

    Raises:
        OSError: If a local folder cannot be looked into.
        RunError: If the bucket cannot be reached.
    """
    if is_local(folder):
        return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    key = key_of(folder).rstrip("/")
    with reaching(folder):
        found = store_of(folder).find(key)
    return sorted(name[len(key) + 1 :] for name in found if name.startswith(f"{key}/"))


def stamps(folder: Path) -> dict[str, str]:
    """What is in a folder, by name in order: size, and time of the last change or digest; a file replaced has another.

    Raises:
        OSError: If a local folder cannot be looked into.
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
        # gone since it was listed
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _changed(facts: dict[str, Any]) -> Any:
    known = ("ETag", "etag", "LastModified", "mtime", "created")
    return next((facts[key] for key in known if facts.get(key) is not None), None)


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """What a bucket says of the objects in a folder, by their names there."""
    key = key_of(folder)
    with reaching(folder):
        try:
            found = store_of(folder).ls(key, detail=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            _check_bucket(folder, error)
            return {}
    keys = {one["name"].rstrip("/"): one for one in found}
    # a bucket may hold an empty object in the folder's own name
    return {name.rsplit("/", 1)[-1]: one for name, one in keys.items() if name.strip("/") != key.strip("/")}


def read_bytes(file: Path) -> bytes:
    """Read a file.

    Raises:
        OSError: If it is not there, or a local one cannot be read.
        RunError: If the bucket cannot be reached.
    """
    if is_local(file):
        return file.read_bytes()
    with reaching(file):
        data: bytes = store_of(file).cat_file(key_of(file))
        return data


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file, and make its folder; a local one is not written whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    if is_local(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return
    with as_os_error():
        put_object(file, data)


def put_object(file: Path, data: bytes, mode: str = "overwrite") -> None:
    """Put a file into a bucket in one step.

    Args:
        file: The file; not a local one.
        data: What goes in.
        mode: ``overwrite``, or ``create`` if it must not be there yet.

    Raises:
        FileExistsError: If it must not be there, but is.
        OSError: If it takes too long; the library raises whatever it likes.
    """
    store, key = store_of(file), key_of(file)
    if not store.async_impl:
        store.pipe_file(key, data, mode=mode)
        return
    from fsspec.asyn import sync

    # a server that takes the connection and never answers is waited for without end otherwise
    seconds = PUT_SECONDS + len(data) / PUT_RATE
    sync(store.loop, store._pipe_file, key, data, mode=mode, timeout=seconds)


def remove_file(file: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        OSError: If it cannot be removed.
    """
    if is_local(file):
        file.unlink(missing_ok=True)
        return
    with as_os_error(), suppress(FileNotFoundError):
        store_of(file).rm_file(key_of(file))


def map_files(function: Callable[[Path], T], files: Iterable[Path]) -> list[T]:
    """Apply a function to many files, in order; those in a bucket are read side by side."""
    files = list(files)
    if all(is_local(file) for file in files):
        return [function(file) for file in files]
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(function, files))


def store_of(path: Path) -> Any:
    """The fsspec file system of a path that is not local."""
    return cast(Any, path).fs


def key_of(path: Path) -> str:
    """The name that the file system of :func:`store_of` knows a path by."""
    return str(cast(Any, path).path)


@contextmanager
def as_os_error() -> Iterator[None]:
    """Turn whatever the library of a bucket raises into an OSError of one line."""
    try:
        yield
    except (OSError, InputError, RunError):
        raise
    except Exception as error:
        raise OSError(one_line(error)) from error


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Turn a bucket that does not answer, or lets nobody in, into one clear line.

    Raises:
        RunError: If anything is raised inside but that there is no such file.
    """
    try:
        with as_os_error():
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(
            f"{path} cannot be reached ({one_line(error)}); all finished jobs are safe: see to network, credentials "
            "and permissions, then type the command again, or 'prunepeft resume' if a search had begun"
        ) from error


def _check_bucket(path: Path, error: OSError) -> None:
    """Tell a missing bucket from a missing file."""
    if error_code(error) == "NoSuchBucket":
        raise InputError(f"{path}: there is no such bucket; make it first, or mend its name") from error


def error_code(error: BaseException) -> str:
    """The code that the server gave for an error of s3fs, or nothing."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
