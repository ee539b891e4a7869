"""The stages of the study, one module each: they join the science rooms with tracking."""
