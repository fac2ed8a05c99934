"""Starting the training of one network from the weights of another."""
