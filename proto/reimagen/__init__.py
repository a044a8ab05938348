"""Root of the generated gRPC stubs; see `reimagen.v1`."""
