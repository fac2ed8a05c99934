"""The steps of a trained network as the mathematics has them: what instruments measure with."""
