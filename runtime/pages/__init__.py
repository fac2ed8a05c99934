"""A report as files: one HTML page that needs nothing else, its figures for papers, its numbers as JSON and CSV."""
