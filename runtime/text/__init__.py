"""What tokens of text stand for."""
