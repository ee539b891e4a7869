"""Text tables as authors of data sets ship them."""
