"""Version 1 of the contract between the services, generated from the .proto files beside this module."""
