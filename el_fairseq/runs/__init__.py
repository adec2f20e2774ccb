"""One training and its evaluation: checkpoints to hypotheses to scores."""
