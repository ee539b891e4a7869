"""Running many jobs: one after the other in this process."""
