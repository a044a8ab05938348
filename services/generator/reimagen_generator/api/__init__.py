"""The gRPC and REST APIs of the generator: thin layers over `generation`."""
