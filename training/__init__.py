"""PyTorch: shards and statistics in, a model bundle out. Imports `pipeline` only."""
