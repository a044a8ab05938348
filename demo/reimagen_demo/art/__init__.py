"""Icons, entities, and the plain images that are made of them."""
