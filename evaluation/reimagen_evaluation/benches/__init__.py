"""What is drawn to be judged: benchmarks in their own file formats, as lists of items."""
