"""The networks. They do not depend on the diffusion process."""
