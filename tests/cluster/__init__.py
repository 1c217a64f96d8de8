"""Tests on real daemons."""
