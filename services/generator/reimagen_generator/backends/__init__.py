"""The backends that draw images: a cascade, or a server of images."""
