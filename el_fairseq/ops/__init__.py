"""Kernels of the encouraging loss: losses and gradients of rows of logits, block by block."""
