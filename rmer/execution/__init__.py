"""Running many jobs: one after the other in this process, on worker processes, or on a Ray cluster."""
