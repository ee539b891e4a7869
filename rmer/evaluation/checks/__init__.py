"""Sanity checks of an evaluation: what is measured for them, and their verdicts."""
