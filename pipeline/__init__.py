"""The vocabulary every stage shares: records, canonical pixels, manifests, storage, configuration; no engine."""
