"""PyTorch: shards and statistics in, a model bundle out. Imports `pipeline` only."""

import pipeline  # noqa: F401  -- first: it keeps ONNX Runtime from reporting usage
