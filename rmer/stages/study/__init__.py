"""Stages of many runs: ``study`` and ``sweep``, their plan, cost and jobs."""
