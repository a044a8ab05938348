"""Many requests on one accelerator: admission, order, cancellation, deadlines."""
