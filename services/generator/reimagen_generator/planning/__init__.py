"""Planning of sampling and training on accelerators without having them: memory, work and time."""
