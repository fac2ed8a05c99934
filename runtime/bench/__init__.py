"""Measuring compiled networks against other forms of them, all in one process: python -m runtime.bench."""
