"""Data sources, one module each; a recipe names one under `data`."""
