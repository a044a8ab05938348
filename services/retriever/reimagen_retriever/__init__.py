"""Knowledge bases of (image, caption) pairs: build, search and serve them."""
