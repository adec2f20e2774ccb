"""What the loss costs."""
