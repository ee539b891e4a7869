"""Recordings: decoding, what is wrong with them, the front end, their spectrograms on disk."""
