"""Networks whose features pictures and texts are compared in, read from local safetensors."""
