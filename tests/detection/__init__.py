"""Tests of `detection`."""
