"""The command `reimagen`."""
