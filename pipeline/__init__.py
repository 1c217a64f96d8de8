"""The vocabulary every stage shares: records, canonical pixels, manifests, storage, configuration. Imports no engine."""
