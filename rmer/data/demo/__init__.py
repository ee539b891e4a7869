"""A synthetic data set in the layout of the real ones, with concepts that can be heard and learnt."""
