"""What the user names on the command line to the pictures it means: files, folders, patterns, a list on stdin.

This module finds and reads files; it must not decode them. Every file in a folder counts, whatever its name: the
format is told by the content, and nothing the user pointed at is passed over in silence. Only names that begin with
`.` are left out when a folder is walked.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, Final

from pipeline.errors import StorageError, UsageError
from pipeline.storage import Folder, is_remote, split_uri

__all__ = ["STDIN", "Found", "find", "read"]

STDIN: Final = "-"


@dataclass(frozen=True)
class Found:
    """A picture to ask about.

    Attributes:
        path: where it is, as the user would write it.
        problem: why it cannot be read, if that is known already.
    """

    path: str
    problem: str | None = None


def find(arguments: Sequence[str], stdin: BinaryIO, separator: bytes = b"\n") -> Iterator[Found]:
    """Every picture that the arguments name, in their order; a folder's or a pattern's sorted by path.

    All but the list on standard input is looked up before this returns, so a wrong argument is refused at once.

    Args:
        arguments: files, folders, patterns (`*`, `?`, `[…]`, `**`), `-` for a list on standard input. What exists
            under the very name is that file, even if it looks like a pattern; on remote storage, every name is.
        stdin: the list: one file or folder a line, taken to the letter; `~`, `*` and the like mean nothing there.
        separator: what ends each name of the list.

    Raises:
        UsageError: a pattern matches nothing, or nothing is named at all.
    """
    if list(arguments).count(STDIN) > 1:
        raise UsageError("'-' is given twice, but there is one standard input: name it once.")
    parts = [_listed(stdin, separator) if name == STDIN else _expand(name) for name in arguments]
    return _not_none(chain.from_iterable(parts), arguments)


def read(found: Found, max_bytes: int) -> bytes:
    """A picture's bytes, but no more than one over `max_bytes`: the decoder refuses it then.

    Raises:
        StorageError: it cannot be read.
    """
    if found.problem:
        raise StorageError(f"{found.path}: {found.problem}")
    folder, name = split_uri(found.path)
    if not folder.remote and not folder.exists(name):
        raise StorageError(f"{found.path}: no such file. Check the path.")
    try:
        with folder.open(name) as stream:
            return stream.read(max_bytes + 1)
    except OSError as error:
        raise StorageError(f"{found.path}: cannot read: {error.strerror or error}.") from error


def _not_none(items: Iterable[Found], arguments: Sequence[str]) -> Iterator[Found]:
    """The items, or a UsageError if there are none: at once when that is known, else at the end of the list."""
    iterator = iter(items)
    none = UsageError(
        f"no pictures in {', '.join(arguments) or 'the arguments'}: name files, folders or patterns, for example "
        "telltale predict photo.jpg holiday/ 'scans/**/*.png'."
    )
    if STDIN not in arguments:
        first = next(iterator, None)
        if first is None:
            raise none
        return chain([first], iterator)
    return _checked(iterator, none)


def _checked(items: Iterator[Found], none: UsageError) -> Iterator[Found]:
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        raise none


def _listed(stdin: BinaryIO, separator: bytes) -> Iterator[Found]:
    for line in _split(stdin, separator):
        if line:
            yield from _literal(os.fsdecode(line))


def _split(stream: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """The names, as they come: whoever writes the list need not have finished it."""
    if separator == b"\n":
        yield from (line.removesuffix(b"\n") for line in stream)
        return
    rest = b""
    while chunk := stream.read(1 << 16):
        *whole, rest = (rest + chunk).split(separator)
        yield from whole
    yield rest


def _expand(argument: str) -> list[Found]:
    if not argument:
        raise UsageError("an empty path was given: is a variable unset? Name a file, a folder or a pattern.")
    if os.path.lexists(argument) or glob.escape(argument) == argument or is_remote(argument):
        return _literal(argument)
    # `missing/**` gives `missing/`, hence the filter.
    matches = [path for path in glob.iglob(argument, recursive=True) if os.path.lexists(path)]
    matches.sort(key=lambda path: (path.count(os.sep), path))
    found: dict[tuple[str, str], Found] = {}
    for item in chain.from_iterable(_literal(match) for match in matches):
        # `**` meets a folder's files again inside the folder itself, and through links that lead back up.
        parent, name = os.path.split(item.path)
        found.setdefault((os.path.realpath(parent), name), item)
    if not found:
        raise UsageError(f"{argument}: no file matches this pattern. Check the folder, and `**` for subfolders.")
    return sorted(found.values(), key=lambda item: item.path)


def _literal(path: str) -> list[Found]:
    """A folder's files, or the file itself (one that is not there is reported when it is read)."""
    folder, name = split_uri(path)
    if not folder.is_folder(name):
        return [Found(path)]
    return [_in_folder(folder.child(name), entry.path, entry.size) for entry in folder.child(name).list()]


def _in_folder(folder: Folder, path: str, size: int) -> Found:
    if size < 0:
        return Found(folder.locate(path), "a broken link, or a loop of links. Remove or mend the link.")
    if not folder.remote and not folder.is_file(path):
        return Found(folder.locate(path), "not a regular file (a pipe, a socket or a device). Remove it.")
    return Found(folder.locate(path))
