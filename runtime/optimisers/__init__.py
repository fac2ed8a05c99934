"""Optimisers, one module each; a recipe names one under `optimizer`."""
