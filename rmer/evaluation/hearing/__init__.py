"""Adversaries as sounds: how audible they are, and what is left of them after codecs."""
