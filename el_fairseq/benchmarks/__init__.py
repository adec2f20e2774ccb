"""What the loss, a training and the analysis cost."""
