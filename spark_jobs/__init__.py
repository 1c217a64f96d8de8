"""Spark jobs: ingest, augment, score. Pictures' bytes go through `pipeline.storage`, not through Spark."""
