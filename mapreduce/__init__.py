"""Hadoop Streaming jobs (mrjob): exact dataset statistics. Imports `pipeline` only."""
