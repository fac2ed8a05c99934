"""How the figures of instruments are drawn."""
