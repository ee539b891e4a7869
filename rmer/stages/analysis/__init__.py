"""Stage ``analyze``: which runs, what is read of them, and what comes out."""
