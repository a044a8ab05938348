"""The measurements and the page of `make results`."""
