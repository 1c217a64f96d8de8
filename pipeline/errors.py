"""Every error Telltale raises on purpose, in one tree.

    TelltaleError                 exit 1   something failed; the message says what, where and what to do
    ├── UsageError                exit 2   the command line, or a file it names, is not usable
    │   └── ConfigError           exit 2   a configuration key is unknown, mistyped or out of range
    ├── ImageError                exit 1   one picture cannot be used (`reason` is a stable code)
    ├── StorageError              exit 1   a file cannot be listed, read or written
    │   └── UnavailableError      exit 1   the storage as a whole does not serve us: no single file's fault
    ├── OutputExistsError         exit 1   an output holds something else and `--overwrite` was not given
    ├── IntegrityError            exit 1   bytes differ from what a manifest says, or a manifest is not valid
    ├── DataError                 exit 1   the data cannot give the result asked for (empty class, too many rejects)
    └── SetupError         exit 1   the machine lacks something (Java, a package, memory)

This file must hold no behaviour beyond the messages: turning an error into an exit code is `pipeline.cli`'s work.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "ImageError",
    "IntegrityError",
    "OutputExistsError",
    "SetupError",
    "StorageError",
    "TelltaleError",
    "UnavailableError",
    "UsageError",
]


class TelltaleError(Exception):
    """The root: a failure with a message written for the person who typed the command."""

    exit_code = 1


class UsageError(TelltaleError):
    """The command line, or a file it names, is not usable as given."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key is unknown, mistyped or out of range."""


class ImageError(TelltaleError):
    """One picture cannot be used.

    Attributes:
        reason: stable code for programs and for `rejects.parquet`, one of `empty`, `not_an_image`,
            `unsupported_format`, `truncated`, `corrupt`, `too_many_bytes`, `too_many_pixels`, `too_small`,
            `animated`, `unsupported_pixels`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return (type(self), (self.reason, str(self)))  # crosses process borders in Spark and worker pools


class StorageError(TelltaleError):
    """A file cannot be listed, read or written."""


class UnavailableError(StorageError):
    """The storage as a whole does not serve us (down, not logged in, safe mode): no file may be rejected for that."""


class OutputExistsError(TelltaleError):
    """The output already holds something else, and `--overwrite` was not given."""


class IntegrityError(TelltaleError):
    """Bytes differ from what a manifest says, or a manifest is not a valid one."""


class DataError(TelltaleError):
    """The data cannot give the result that was asked for."""


class SetupError(TelltaleError):
    """The machine lacks something that the command needs (Java, a package, memory)."""
