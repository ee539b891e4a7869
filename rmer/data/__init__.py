"""Clips and labels in: readers, splits, front end."""
