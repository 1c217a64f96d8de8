"""Configuration: typed dataclasses, read from YAML, changed by `--set a.b=c`, validated by pydantic.

An unknown key is refused by name, with the nearest right one; a mistyped value with what was expected. This module must
not hold any stage's settings: each stage declares its own dataclass and gets its section.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.errors import ConfigError
from pipeline.storage import split_uri

__all__ = [
    "SECTIONS",
    "above",
    "apply_sets",
    "as_dict",
    "at_least",
    "between",
    "build",
    "load",
    "multiple_of",
    "read_yaml",
]

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number, as in YAML 1.2; in YAML 1.1 it is a string, because it has no dot."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)

SECTIONS: Final = ("demo", "ingest", "stats", "augment", "training", "evaluation")
"""The sections of a workflow file, one a stage."""


def _bounded(default: Any, **bounds: Any) -> Any:
    return dataclasses.field(default=default, metadata={"bounds": bounds})


def at_least(low: float, default: Any) -> Any:
    """A field whose value must be at least `low`."""
    return _bounded(default, ge=low)


def above(low: float, default: Any) -> Any:
    """A field whose value must be greater than `low`."""
    return _bounded(default, gt=low)


def between(low: float, high: float, default: Any) -> Any:
    """A field whose value must lie in [low, high]."""
    return _bounded(default, ge=low, le=high)


def multiple_of(step: int, default: int) -> Any:
    """A positive field whose value must be a multiple of `step`."""
    return _bounded(default, ge=step, multiple_of=step)


def read_yaml(path: str) -> dict[str, Any]:
    """A YAML file's mapping.

    Raises:
        ConfigError: missing, not YAML, or not a mapping.
    """
    folder, name = split_uri(path)
    if not folder.is_file(name):
        raise ConfigError(f"{path}: no such configuration file. See configs/ for those that come with Telltale.")
    try:
        value = yaml.load(folder.read(name).decode("utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not a {type(value).__name__}.")
    return dict(value)


def apply_sets(values: Mapping[str, Any], sets: Sequence[str]) -> dict[str, Any]:
    """A copy of nested mappings with each `a.b=c` applied; `c` is read as YAML.

    Raises:
        ConfigError: an item is not of the form `a.b=c`.
    """
    result: dict[str, Any] = _deep_copy(values)
    for item in sets:
        key, found, text = item.partition("=")
        if not found or not all(key.split(".")):
            raise ConfigError(f"--set {item}: write it as --set key.subkey=value.")
        try:
            value = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {item}: the value is not valid YAML: {error}") from error
        *parents, last = key.split(".")
        place = result
        for name in parents:
            inner = place.get(name)
            place[name] = place = inner if isinstance(inner, dict) else {}
        place[last] = value
    return result


def _deep_copy(value: Any) -> Any:
    return {key: _deep_copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def build(cls: type[T], values: Mapping[str, Any], where: str = "configuration") -> T:
    """Make a (nested) dataclass from mappings, strictly.

    Args:
        cls: the dataclass.
        values: nested mappings.
        where: the file or option that the values come from, for messages.

    Raises:
        ConfigError: naming every unknown key, mistyped value and value out of range.
    """
    problems: list[str] = []
    result = _build(cls, values, "", problems)
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems))
    return result  # type: ignore[no-any-return]


def _build(cls: Any, values: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            problems.append(_unknown(f"{prefix}{key}", str(key), list(fields)))
            continue
        arguments[key] = _value(hints[key], value, f"{prefix}{key}", problems, fields[key].metadata.get("bounds", {}))
    for name, field in fields.items():
        if (
            name not in arguments
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ):
            problems.append(f"key '{prefix}{name}' is missing")
    if problems:
        return None
    try:
        return cls(**arguments)
    except ConfigError as error:
        problems.append(str(error))
        return None


def _unknown(full: str, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key '{full}'" + (
        f": did you mean '{full[: -len(key)]}{near[0]}'?" if near else f"; known keys: {', '.join(known)}"
    )


def _value(hint: Any, value: Any, key: str, problems: list[str], bounds: Mapping[str, Any]) -> Any:
    nested = _dataclass_in(hint)
    if nested is not None and isinstance(value, Mapping):
        return _build(nested, value, f"{key}.", problems)
    if get_origin(hint) is tuple and nested is None and get_args(hint)[1:] == (Ellipsis,):
        inner = _dataclass_in(get_args(hint)[0])
        if inner is not None and isinstance(value, (list, tuple)):
            return tuple(_value(inner, item, f"{key}[{i}]", problems, {}) for i, item in enumerate(value))
    if nested is not None and value is not None:
        problems.append(f"'{key}' must be a mapping, not {value!r}")
        return None
    try:
        hint = Annotated[hint, Field(**bounds)] if bounds and value is not None else hint
        config = None if dataclasses.is_dataclass(hint) else ConfigDict(strict=True)
        return TypeAdapter(hint, config=config).validate_python(
            tuple(value) if get_origin(hint) is tuple and isinstance(value, list) else value
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        inside = "".join(f"[{part}]" for part in first["loc"] if isinstance(part, int))
        problems.append(f"'{key}{inside}': {first['msg'].lower()}, got {first['input']!r}")
        return None


def _dataclass_in(hint: Any) -> Any:
    """The dataclass that a type hint is, or is optionally."""
    if dataclasses.is_dataclass(hint):
        return hint
    if get_origin(hint) is Union or str(get_origin(hint)) == "<class 'types.UnionType'>":
        for part in get_args(hint):
            if dataclasses.is_dataclass(part):
                return part
    return None


def load(cls: type[T], path: str | None, sets: Sequence[str] = (), section: str | None = None) -> T:
    """A stage's configuration from a YAML file (or none) and `--set` items.

    Args:
        cls: the stage's dataclass.
        path: YAML file, or None for the defaults.
        sets: `a.b=c` items, applied after the file; their keys are those of the stage, without the section.
        section: the key of a workflow file that holds this stage's settings. A file with none of the workflow's
            sections (`SECTIONS`) is taken as the stage's own.

    Raises:
        ConfigError: see `build`.
    """
    values = read_yaml(path) if path else {}
    if section is not None and any(name in values for name in SECTIONS):
        inner = values.get(section) or {}
        if not isinstance(inner, Mapping):
            raise ConfigError(f"{path}: '{section}' must be a mapping, not {inner!r}.")
        values = dict(inner)
    return build(cls, apply_sets(values, sets), path or "--set")


def as_dict(config: Any) -> dict[str, Any]:
    """A dataclass as JSON-ready nested mappings (tuples become lists), for manifests."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
