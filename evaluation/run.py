"""`python -m evaluation.run --bundle B --dataset D --output R`: an honest report of how good a bundle is on a dataset.

Writes `scores.parquet`, `report.html` and, last, `report.json`, which is the manifest. The same bundle, dataset and
settings give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from detection.model import Detector
from detection.model import load as load_bundle
from evaluation.config import EvaluationConfig
from pipeline.cache import cached
from pipeline.canonical import Canonical
from pipeline.cli import add_config_options, add_output_options, run_command, say
from pipeline.config import as_dict, build, load
from pipeline.errors import ConfigError, IntegrityError, TelltaleError
from pipeline.manifest import FileEntry, file_entries, output_state, publish, read_sealed
from pipeline.records import SCHEMA_VERSION
from pipeline.storage import Folder, sha256_of

__all__ = ["MANIFEST", "PAGE", "evaluate", "main"]

MANIFEST: Final = "report.json"
PAGE: Final = "report.html"
_OURS: Final = ("report.html", "scores.parquet")


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a bundle on a dataset."""
    options = _parser().parse_args(arguments)
    config = load(EvaluationConfig, options.config, options.sets, section="evaluation")
    output = Folder(options.output)
    fresh = evaluate(
        load_bundle(options.bundle), Folder(options.dataset), output, config, options.overwrite, options.update
    )
    say(f"{output.locate(PAGE)}: {'written' if fresh else 'up to date'}")


def evaluate(
    detector: Detector,
    dataset: Folder,
    output: Folder,
    config: EvaluationConfig,
    overwrite: bool = False,
    update: bool = False,
) -> bool:
    """Write the report, unless the same one is there. Returns whether it was written.

    Raises:
        ConfigError: the dataset's pictures are not canonical in the way the bundle's are.
        IntegrityError: the dataset is damaged, or of another schema version.
        OutputExistsError: the output holds something else.
    """
    document = read_sealed(dataset, "manifest.json", "dataset")
    _check_dataset(detector, dataset, document)
    dataset = cached(dataset, document["files"], config.cache_gb)
    from evaluation.report import fixed_members, report_body  # scikit-learn: seconds that a wrong option need not wait

    expected = fixed_members(detector, document, config)
    if output_state(output, MANIFEST, "report", expected, _OURS, overwrite, update) == "done":
        return False
    from evaluation.report_html import render
    from evaluation.scores import pictures_of, score, write_scores

    scores = score(detector, dataset, document, config.splits)
    body = report_body(detector, document, config, scores)
    wanted = {item["image_id"] for kind in body["mistakes"].values() for item in kind}
    page = render(body, pictures_of(dataset, document, config.splits, wanted))
    output.put(PAGE, page)
    files = [write_scores(output, detector, scores), _entry(output, PAGE)]
    publish(output, MANIFEST, {**body, "files": file_entries(files)})
    _summary(body)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.run", description="Report how good a bundle is on a dataset, and how sure that is."
    )
    parser.add_argument("--bundle", required=True, metavar="FOLDER", help="a trained bundle, e.g. runs/demo/model")
    parser.add_argument("--dataset", required=True, metavar="FOLDER", help="a dataset, e.g. runs/demo/dataset")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the report goes")
    add_config_options(parser)
    add_output_options(parser)
    return parser


def _check_dataset(detector: Detector, dataset: Folder, document: Mapping[str, Any]) -> None:
    where = dataset.locate("manifest.json")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise IntegrityError(
            f"{where}: record schema version {version}, this Telltale reads version {SCHEMA_VERSION}. "
            "Make the dataset again with this version (spark_jobs/ingest.py)."
        )
    try:
        theirs = build(Canonical, document["config"]["canonical"], where)
    except (KeyError, TypeError, TelltaleError) as error:
        raise IntegrityError(
            f"{where}: does not say how its pictures were made ({error}). Make it again (spark_jobs/ingest.py)."
        ) from error
    differing = _differences(detector.bundle.canonical, theirs)
    if differing:
        raise ConfigError(
            f"{dataset.uri}: its pictures were made in another way than this bundle sees pictures: "
            + "; ".join(differing)
            + ". Ingest the raw pictures again with the bundle's setting (see 'canonical' in its bundle.json)."
        )


def _differences(bundle: Canonical, dataset: Canonical) -> list[str]:
    """What decides the pixels of rows outside the training split, where the two differ."""

    def settings(setting: Canonical) -> dict[str, Any]:
        harmonise = setting.harmonise
        geometry = {f"geometry.{key}": value for key, value in as_dict(setting.geometry).items()}
        return geometry | {"harmonise.quality": harmonise.quality, "harmonise.subsampling": harmonise.subsampling}

    ours, theirs = settings(bundle), settings(dataset)
    return [f"{key} is {theirs[key]}, the bundle has {ours[key]}" for key in ours if ours[key] != theirs[key]]


def _entry(folder: Folder, path: str) -> FileEntry:
    with folder.open(path) as stream:
        digest, size = sha256_of(stream)
    return FileEntry(path=path, bytes=size, sha256=digest)


def _summary(body: Mapping[str, Any]) -> None:
    say(f"{body['headline']['title']}.")
    for sentence in body["headline"]["sentences"]:
        say(f"  {sentence}")


if __name__ == "__main__":
    raise SystemExit(run_command(main))
