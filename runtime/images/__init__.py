"""From pictures to tensors and back."""
