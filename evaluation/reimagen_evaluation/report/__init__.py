"""From scores to a page: tables with intervals, plots, sheets of images."""
