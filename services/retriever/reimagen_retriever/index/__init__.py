"""How pairs are found."""
