"""The stages, a folder for each subject: they join the science rooms with tracking."""
