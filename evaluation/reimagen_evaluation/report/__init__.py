"""The report: tables with intervals, plots and sheets of images, made from the scores."""
