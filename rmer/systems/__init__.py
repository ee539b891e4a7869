"""What is studied: the networks, and the catalogue that names them."""
