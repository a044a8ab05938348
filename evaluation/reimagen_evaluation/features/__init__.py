"""Networks whose features images and texts are compared in, read from local safetensors."""
