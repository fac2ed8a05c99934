"""How good frozen features are: what is read of a network, and the classifiers that judge it."""
