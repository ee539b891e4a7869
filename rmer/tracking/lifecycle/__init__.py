"""The life of a run: opened or gone on with, worked in, closed."""
