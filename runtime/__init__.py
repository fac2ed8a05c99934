"""The runtime trains, evaluates and converts what the compiler wrote; it knows networks only by their interface."""
