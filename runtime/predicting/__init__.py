"""What a trained network says of pictures that are in no data set."""
