"""A bundle and a dataset in, an honest report out. Imports `detection` and `pipeline` only."""
