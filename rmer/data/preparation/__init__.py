"""From the files of a data set to a data set: survey, duplicates, splits, excerpts."""
