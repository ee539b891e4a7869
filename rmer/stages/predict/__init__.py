"""Emotions of anyone's songs, predicted by trained models."""
