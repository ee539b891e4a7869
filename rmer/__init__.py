"""Robust Music Emotion Recognition: train, attack, compare and explain MER models on MLflow."""

__version__ = "0.1.0"
