"""Icons, entities and the plain images made of them."""
