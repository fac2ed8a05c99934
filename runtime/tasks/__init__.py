"""Training tasks, one module each; a recipe names one under `task`."""
