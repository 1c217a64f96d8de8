"""Tests of what docker/ holds."""
