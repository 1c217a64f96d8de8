"""Storage: every data URI goes through here: plain paths and `file:`, `hdfs:`, `s3:` (also `s3a:`) and `gs:` URIs.

A `Folder` is a place with files in it, named by paths relative to it, with `/` between the parts. A plain path is
taken to the letter (`#`, `%`, quotes and newlines are ordinary characters), and so are the names on HDFS, S3 and GCS; a
`file:` URI is percent-decoded.

Nothing half-written is ever visible under a final name: `put` stages the bytes and then puts them under the name,
`create` does so only if the name is still free. What a killed attempt leaves lies under `_staging/` and nowhere else
(on S3 and GCS it leaves nothing, but for parts of an upload that the bucket's own rules clear away).

Names and passwords are no part of a URI: who asks is settled by the environment or by the platform's own files, and no
message repeats it. This package must not know what is in the files, and loads a client only when a URI needs it.
"""

from __future__ import annotations

from pipeline.storage._backend import STAGING, Entry, Staged, sha256_of
from pipeline.storage._folder import Folder, split_uri
from pipeline.storage._uri import is_remote, local_path

__all__ = ["STAGING", "Entry", "Folder", "Staged", "is_remote", "local_path", "sha256_of", "split_uri"]
