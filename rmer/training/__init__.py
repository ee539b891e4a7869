"""Fitting a system: the published and the corrected training protocol."""
