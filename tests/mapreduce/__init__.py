"""Tests of `mapreduce`."""
