"""Thin commands, one an entry point of ``MLproject``: parse, call rmer, exit."""
