"""What a training run is told, and the files that tell it."""
