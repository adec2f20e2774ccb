"""Weights of classes from their counts, to try re-weighting beside the encouraging loss."""

import torch


def weights_of_counts(counts, power, smoothing):
    """Weights ``(count + smoothing) ** -power``, (V,) in float32, 1 on average over the counts.

    So a training's loss and learning rate keep their scale.

    Args:
        counts: (V,), how often each class occurs, 0 or more.
        power: 0 weighs all classes alike, 0.5 by the inverse square root of the count, 1 by its
            inverse (the paper's related work calls that re-weighting).
        smoothing: greater than 0; keeps the rarest classes from outweighing all others.

    Raises:
        ValueError: the smoothing is not positive, or nothing is counted.
    """
    if not smoothing > 0:
        raise ValueError(f"class_weight_smoothing is {smoothing}, expected more than 0")
    counts = torch.as_tensor(counts, dtype=torch.float64)
    if not counts.sum() > 0:
        raise ValueError("class weights need the counts of the classes, and all of these are 0")
    weights = (counts + smoothing) ** -power
    return (weights * counts.sum() / (weights * counts).sum()).float()


def weights_of_dictionary(dictionary, power, smoothing):
    """The same from the counts in a fairseq dictionary.

    Special symbols, which fairseq-preprocess does not count, weigh 1, as the average token does.
    """
    weights = torch.ones(len(dictionary))
    special = dictionary.nspecial
    weights[special:] = weights_of_counts(dictionary.count[special:], power, smoothing)
    return weights
