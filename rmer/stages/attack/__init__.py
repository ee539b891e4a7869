"""Stage ``attack``: its parameters, the models it attacks, and what its runs log."""
