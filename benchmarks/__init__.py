"""Measures the project against the published code, run from a clone of it, and against the machine."""
