"""The encouraging loss in plain PyTorch: handwritten digits, cross-entropy beside it.

    .venv/bin/python scripts/examples/digits.py

trains a small network on the 1,797 digits that ship with scikit-learn, once with each loss from
each seed, and compares what both know of the digits that they have not seen.
"""

import argparse

import torch
from scipy.stats import ttest_rel
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tabulate import tabulate
from torch import nn
from torch.nn.functional import cross_entropy

from el_fairseq import encouraging_loss

MEASURES = ["accuracy, %", "margin", "energy"]


def split(seed):
    """Training images, training labels, test images, test labels: half of the digits each."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.5, random_state=seed)
    images, test_images = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    labels, test_labels = (torch.tensor(part) for part in parts[2:])
    return images, labels, test_images, test_labels


def trained(loss_function, images, labels, seed, epochs):
    """A network trained from a seed, which decides its initial weights and its batches."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            loss_function(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model


@torch.no_grad()
def measures(model, images, labels):
    """Accuracy, mean margin (the right logit less the best other) and mean energy (-logit)."""
    logits = model(images)
    right = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), float("-inf")).max(1).values
    margin = right - others
    accuracy = 100 * (margin > 0).double().mean()
    return [accuracy.item(), margin.mean().item(), -right.mean().item()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10, help="how many; at least 2 (default: 10)")
    parser.add_argument("--epochs", type=int, default=20, help="default: 20")
    parser.add_argument("--log-end", type=float, default=0.75, help="default: 0.75")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"--seeds is {args.seeds}, expected 2 or more to test a difference")
    if not 0 < args.log_end <= 1:
        parser.error(f"--log-end is {args.log_end}, expected a number in (0, 1]")

    def encouraging(logits, labels):
        return encouraging_loss(logits, labels, log_end=args.log_end)

    found = {"CE": [], "EL": []}
    for seed in range(args.seeds):
        images, labels, *test = split(seed)
        for name, loss in (("CE", cross_entropy), ("EL", encouraging)):
            model = trained(loss, images, labels, seed, args.epochs)
            found[name].append(measures(model, *test))

    ce, el = (torch.tensor(found[name], dtype=torch.float64) for name in ("CE", "EL"))
    rows, verdicts = [], []
    for measure, of_ce, of_el in zip(MEASURES, ce.T, el.T):
        p = ttest_rel(of_el, of_ce).pvalue
        change = (of_el - of_ce).mean().item()
        values = [f"{v.mean():.2f} ± {v.std():.2f}" for v in (of_ce, of_el)]
        rows.append([measure, *values, f"{change:+.2f}", f"{p:.2g}"])
        word = "higher" if change > 0 else "lower"
        # Three questions are asked: each may go wrong by chance one time in 60, not in 20.
        verdicts.append(
            f"{measure.split(',')[0].capitalize()} is {word} with EL, by more than seeds differ."
            if p < 0.05 / len(MEASURES)
            else f"{measure.split(',')[0].capitalize()}: these seeds do not tell the losses apart."
        )
    print(f"{args.seeds} seeds, {args.epochs} epochs, log end {args.log_end:g}; mean ± deviation")
    print(tabulate(rows, ["digits not seen", "CE", "EL", "EL - CE", "p, paired t"], "github"))
    print("\n".join(verdicts))


if __name__ == "__main__":
    main()
