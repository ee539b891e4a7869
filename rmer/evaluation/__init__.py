"""Scores of predictions, statistical tests between systems."""
