"""Configuration: nothing unknown, mistyped or out of range gets through, and the message names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from pipeline.canonical import Canonical
from pipeline.config import apply_sets, as_dict, at_least, build, load
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    rate: float = at_least(0, 0.1)
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    count: int = at_least(1, 3)
    names: tuple[str, ...] = ("x",)
    inner: Inner = field(default_factory=Inner)
    maybe: float | None = None
    pretrained: bool | str = True


def test_defaults_hold_and_values_nest() -> None:
    assert build(Outer, {}) == Outer()
    assert build(Outer, {"inner": {"rate": 1}, "names": ["p", "q"], "maybe": 0.5}) == Outer(
        names=("p", "q"), inner=Inner(rate=1.0), maybe=0.5
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 1}, "unknown key 'cuont': did you mean 'count'"),
        ({"inner": {"rat": 1}}, r"unknown key 'inner\.rat': did you mean 'inner\.rate'"),
        ({"zzz": 1}, "unknown key 'zzz'; known keys: count, names"),
        ({"count": "3"}, "'count'.*integer.*'3'"),
        ({"count": 2.5}, "'count'.*2.5"),
        ({"count": True}, "'count'.*True"),
        ({"count": 0}, "'count'.*greater than or equal to 1"),
        ({"count": None}, "'count'"),
        ({"inner": {"kind": "c"}}, r"'inner\.kind'.*'a' or 'b'"),
        ({"inner": 3}, "'inner' must be a mapping"),
        ({"names": "x"}, "'names'"),
        ({"names": [1]}, r"'names\[0\]'"),
        ({"pretrained": 1}, "'pretrained"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Outer, values, "demo.yaml")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"demo\.yaml: .*cuont.*; .*kind"):
        build(Outer, {"cuont": 1, "inner": {"kind": 1}}, "demo.yaml")


def test_sets_are_yaml_and_reach_deep() -> None:
    values = {"inner": {"rate": 1.0}, "count": 2}
    assert apply_sets(values, ["inner.kind=b", "names=[p, q]", "maybe=null"]) == {
        "inner": {"rate": 1.0, "kind": "b"},
        "count": 2,
        "names": ["p", "q"],
        "maybe": None,
    }
    assert values == {"inner": {"rate": 1.0}, "count": 2}


@pytest.mark.parametrize("item", ["count", "=1", "a..b=1", "count=[1"])
def test_a_malformed_set_is_refused(item: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_sets({}, [item])


def test_a_stage_reads_its_section_of_a_workflow_and_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "workflow.yaml").write_text("name: x\ntraining: {}\ningest:\n  count: 7\n")
    (tmp_path / "own.yaml").write_text("count: 8\n")
    assert load(Outer, str(tmp_path / "workflow.yaml"), section="ingest").count == 7
    assert load(Outer, str(tmp_path / "workflow.yaml"), section="augment") == Outer()
    assert load(Outer, str(tmp_path / "own.yaml"), ["count=9"], section="ingest").count == 9


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- 1", "must be a mapping")])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(Outer, str(tmp_path / "bad.yaml"))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load(Outer, "nowhere.yaml")


def test_the_canonical_setting_survives_a_round_trip_through_json() -> None:
    assert build(Canonical, as_dict(Canonical())) == Canonical()


def test_cross_field_checks_are_configuration_errors() -> None:
    with pytest.raises(ConfigError, match="train_quality_min"):
        build(Canonical, {"harmonise": {"train_quality_min": 95, "train_quality_max": 90}})
    with pytest.raises(ConfigError, match="multiple of 16"):
        build(Canonical, {"geometry": {"size": 100}})


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1E+3", 1000.0), ("2.e2", 200.0), ("-1e1", -10.0), ("7", 7.0)]
)
def test_a_number_with_an_exponent_needs_no_dot(tmp_path: Path, text: str, value: float) -> None:
    (tmp_path / "rate.yaml").write_text(f"maybe: {text}\n")
    assert load(Outer, str(tmp_path / "rate.yaml")).maybe == value
    assert load(Outer, None, [f"maybe={text}"]).maybe == value
