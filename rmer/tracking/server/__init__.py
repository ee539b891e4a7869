"""A tracking server for one lab machine: where it listens, and logins."""
