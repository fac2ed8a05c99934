"""Weights of the official code for compiled networks, and back."""
