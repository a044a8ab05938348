"""A page on which a person rates images without knowing what drew them."""
