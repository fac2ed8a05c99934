"""A trained network as a file or folder that other programs read."""
