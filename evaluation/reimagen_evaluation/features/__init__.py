"""Networks that compute features of images and texts, read from local safetensors files."""
