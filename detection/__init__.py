"""A bundle in, a verdict out, without torch: library and command line. Imports `pipeline` only."""
