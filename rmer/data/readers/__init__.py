"""One reader a data set: its files, wherever they lie and whatever their form, joined on clip names."""
