"""Adversarial attacks on regression models: the threat model, and one attack a file."""
