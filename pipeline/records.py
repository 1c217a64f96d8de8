"""The record: the one Arrow schema that datasets and shards share, with its version.

Nothing else in Telltale may define a column. A change here raises `SCHEMA_VERSION`, and readers refuse other versions.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from pipeline.errors import IntegrityError

__all__ = ["AI", "LABELS", "REAL", "REJECT_SCHEMA", "SCHEMA", "SCHEMA_VERSION", "SPLITS", "check_schema"]

SCHEMA_VERSION: Final = 1
REAL: Final = 0
AI: Final = 1  # always the positive class
LABELS: Final = ("real", "ai")  # the name of label i is LABELS[i]
SPLITS: Final = ("train", "val", "test", "ood")

_VERSION_KEY: Final = b"telltale.schema_version"


def _field(name: str, kind: pa.DataType, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


SCHEMA: Final[pa.Schema] = pa.schema(
    [
        _field("image", pa.binary()),  # encoded bytes; decoding them gives the canonical pixels
        _field("label", pa.int8()),  # 0 real, 1 AI-generated
        _field("source", pa.string()),  # camera set or generator
        _field("split", pa.string()),  # one of SPLITS
        _field("image_id", pa.string()),  # sha256 of the original file, hex
        _field("group_id", pa.string()),  # near-duplicates and matched pairs share it
        _field("variant", pa.string()),  # identity, hflip, rot90, ...
        _field("quality", pa.int16()),  # the harmoniser's JPEG quality of this picture
        _field("path", pa.string()),  # of the original, relative to the raw folder
        _field("format", pa.string()),  # of the original: JPEG, PNG, ...
        _field("width", pa.int32()),  # of the original raster, before EXIF orientation
        _field("height", pa.int32()),
        _field("bytes", pa.int64()),  # of the original file
        _field("quantization", pa.list_(pa.list_(pa.uint16())), nullable=True),  # JPEG tables of the original
        _field("has_exif", pa.bool_()),
    ],
    metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()},
)

REJECT_SCHEMA: Final[pa.Schema] = pa.schema(
    [
        _field("path", pa.string()),  # relative to the raw folder
        _field("label", pa.int8()),
        _field("source", pa.string()),
        _field("reason", pa.string()),  # duplicate, cross_label_pixels, or an ImageError's reason
        _field("detail", pa.string()),
        _field("sha256", pa.string(), nullable=True),  # null when the file could not be read
        _field("duplicate_of", pa.string(), nullable=True),  # the path of the row that was kept
    ],
    metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()},
)


def check_schema(schema: pa.Schema, where: str, expected: pa.Schema = SCHEMA) -> None:
    """Refuse a Parquet file of another schema version or with other columns.

    Args:
        schema: the Arrow schema read from the file.
        where: the file's name, for the message.
        expected: `SCHEMA` or `REJECT_SCHEMA`.

    Raises:
        IntegrityError: naming both versions, or the first column that differs.
    """
    found = (schema.metadata or {}).get(_VERSION_KEY, b"none").decode(errors="replace")
    if found != str(SCHEMA_VERSION):
        raise IntegrityError(
            f"{where}: record schema version {found}, this Telltale reads version {SCHEMA_VERSION}. "
            "Make the dataset again with this version (spark_jobs/ingest.py, then spark_jobs/augment.py)."
        )
    for wanted in expected:
        index = schema.get_field_index(wanted.name)
        if index < 0 or schema.field(index).type != wanted.type:
            raise IntegrityError(
                f"{where}: column '{wanted.name}' is missing or not of type {wanted.type}: not a Telltale file."
            )
