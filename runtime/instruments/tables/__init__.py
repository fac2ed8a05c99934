"""The tables of instruments: rows of raw numbers, long and complete."""
