"""What the figures mean, in sentences: the headline, remarks that a reader must know, and what was not tested.

Every sentence follows from the report's data; this module must not compute figures of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["FEW_GROUPS", "headline", "notes", "untested"]

FEW_GROUPS: Final = 30
"""With fewer groups than this the bootstrap's intervals are rough, and usually too narrow."""

_LEVELS: Final = (  # lowest AUC, lowest balanced accuracy; best first
    (0.98, 0.93, "excellent", "Tells generated pictures from real ones very reliably"),
    (0.90, 0.82, "good", "Tells generated pictures from real ones well"),
    (0.75, 0.68, "fair", "Tells generated pictures from real ones, but makes many mistakes"),
    (0.50, 0.50, "weak", "Hardly tells generated pictures from real ones"),
    (float("-inf"), float("-inf"), "chance", "Its verdicts cannot be told from guessing"),
)
_UNSEEN: Final = {  # what is added when sources that training never saw are on a lower level
    "good": "less so on sources it has not met",
    "fair": "on sources it has not met it makes many mistakes",
    "weak": "on sources it has not met it hardly does",
    "chance": "on sources it has not met it only guesses",
}


def headline(body: Mapping[str, Any]) -> dict[str, Any]:
    """How good and how sure: {split, level, title, sentences}.

    The level is that of the intervals' lower ends: of AUC (the ranking) and balanced accuracy (the verdicts). Where the
    sources that training never saw are on a lower level, it is theirs, and the title says so.
    """
    split = next((name for name in ("test", "ood", "val", "train") if _auc(body, name) is not None), None)
    if split is None:
        return {
            "split": None,
            "level": "unknown",
            "title": "No verdict on this detector: no split holds both classes",
            "sentences": ["Both real and AI-generated pictures are needed to say how well it tells them apart."],
        }
    figures = body["splits"][split]
    auc, verdicts = (_sure(figures, name) for name in ("auc", "balanced_accuracy"))
    rank = _rank(figures)
    unseen_rank = rank if _auc(body, "ood") is None else _rank(body["splits"]["ood"])
    level, title = _LEVELS[max(rank, unseen_rank)][2], _LEVELS[rank][3]
    if unseen_rank > rank:
        title = f"{title}; {_UNSEEN[level]}"
    sentences = [_how_often(split, figures), _how_sure(figures)]
    if auc > 0.9 and verdicts < 0.75:
        sentences.append(
            f"It ranks pictures better (AUC {figures['auc']:.3f}) than its verdicts show: its threshold does not suit "
            "this dataset."
        )
    if split != "ood" and _auc(body, "ood") is not None:
        sentences.append(_elsewhere(body["splits"]["ood"]))
    return {"split": split, "level": level, "title": title, "sentences": sentences}


def notes(body: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the figures."""
    found = []
    if not body["chain"]["same_dataset"]:
        found.append(
            "This dataset is not the one that the bundle was trained on. Whether pictures of it, or near-duplicates of "
            "them, were used in training cannot be known from here."
        )
    for name, figures in body["splits"].items():
        if figures["n"] and figures["groups_drawn"] < FEW_GROUPS:
            found.append(
                f"{name}: its pictures come from only {figures['groups_drawn']} independent groups (pictures of one "
                "scene count as one). The intervals are rough and probably too narrow."
            )
    perfect = [name for name, one in body["splits"].items() if any(bounds == [1, 1] for bounds in one["ci95"].values())]
    if perfect:
        found.append(
            f"{', '.join(perfect)}: a range of 100 – 100 or 1 – 1 only says that no mistake was seen. After n groups "
            "without one, up to 3 in n may still be wrong."
        )
    if not body["splits"].get("test", {}).get("n"):
        found.append(
            "There is no test split: of the sources that training met, no figure here is of pictures that training did "
            "not choose by."
        )
    if "val" in body["splits"]:
        found.append("val: training chose its epoch, temperature and threshold on it, so its figures flatter.")
    if "train" in body["splits"]:
        found.append("train: the model has learnt these pictures; the figures say how far it fits, not how good it is.")
    return found


def untested(body: Mapping[str, Any]) -> list[str]:
    """What this report does not say."""
    found = []
    if not body["splits"].get("ood", {}).get("n"):
        found.append("Generators and cameras that training never saw: the dataset has no pictures in ood.")
    names = sorted(name for name, figures in body["by_source"].items() if figures["label"] == "ai")
    listed = ", ".join(names) if names else "none"
    return [
        *found,
        f"Any generator other than those in the tables ({listed}). New ones appear every month.",
        "Pictures that were cropped, resized, filtered, photographed from a screen or sent through a messenger, unless "
        "the dataset holds such pictures.",
        "Pictures of which only a part is generated, and pictures changed on purpose to deceive a detector.",
        "Kinds of pictures that the dataset lacks: the figures hold for its sources and no others.",
    ]


def _rank(figures: Mapping[str, Any]) -> int:
    """The place of the best level whose bounds both lower ends are above."""
    auc, verdicts = (_sure(figures, name) for name in ("auc", "balanced_accuracy"))
    return next(place for place, (low, least, *_) in enumerate(_LEVELS) if auc > low and verdicts > least)


def _auc(body: Mapping[str, Any], split: str) -> float | None:
    value: float | None = body["splits"].get(split, {}).get("auc")
    return value


def _sure(figures: Mapping[str, Any], name: str) -> float:
    bounds, value = figures["ci95"][name], figures[name]
    return float(bounds[0] if bounds else value)


def _how_often(split: str, figures: Mapping[str, Any]) -> str:
    caught, left = figures["recall"], figures["specificity"]
    return (
        f"On the {figures['n_real'] + figures['n_ai']} pictures of {split} it recognises {_percent(caught)} of the "
        f"AI-generated ones{_range(figures, 'recall')} and {_percent(left)} of the real ones"
        f"{_range(figures, 'specificity')}."
    )


def _how_sure(figures: Mapping[str, Any]) -> str:
    groups = figures["groups_drawn"]
    rough = ", too few for more than a rough idea" if groups < FEW_GROUPS else ""
    return f"Ranges are 95 % intervals over {groups} independent groups of pictures{rough}."


def _elsewhere(figures: Mapping[str, Any]) -> str:
    bounds = figures["ci95"]["auc"]
    between = f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
    return (
        f"On sources that training never saw its AUC is {figures['auc']:.3f}{between}, and it recognises "
        f"{_percent(figures['recall'])} of the AI-generated pictures{_range(figures, 'recall')}."
    )


def _range(figures: Mapping[str, Any], name: str) -> str:
    """The interval in brackets. The bootstrap cannot see past a sample without mistakes, so that is said instead."""
    bounds = figures["ci95"][name]
    if not bounds:
        return ""
    if bounds[0] == bounds[1] == 1:
        groups = figures["groups_ai" if name == "recall" else "groups_real"]
        return f" (no mistake in {groups} groups: up to {_percent(unseen(groups))} may still be wrong)"
    return f" ({_percent(bounds[0])} to {_percent(bounds[1])})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def unseen(groups: int) -> float:
    """The error rate that `groups` independent trials without an error leave possible, at 95 %: 1 - 0.05^(1/n).

    Clopper & Pearson 1934, "The Use of Confidence or Fiducial Limits"; about 3/n, the "rule of three".
    """
    return float(1 - 0.05 ** (1 / groups))
