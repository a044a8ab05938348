"""The retrieval-conditioned cascade: networks, diffusion, and the services in front of them."""
