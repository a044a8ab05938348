"""A page on which a person rates pictures without knowing what drew them."""
