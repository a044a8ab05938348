"""A web page on which people rate images without seeing which setting drew them."""
