"""What fairseq-train logs with ``--log-format json``: records, curves over epochs, and progress."""

import json
import math
import re
import time
from datetime import timedelta
from pathlib import Path

SECONDS_BETWEEN_LINES = 30

_RECORD = re.compile(r"\| INFO \| (train_inner|train|valid) \| (\{.*\})\s*$")


def parse(line):
    """Return (kind, numbers) of a log line, or ``None`` where it holds no whole record.

    ``kind`` is ``train_inner`` (every ``--log-interval`` updates), ``train`` (end of an epoch)
    or ``valid``; the numbers keep fairseq's names, without the prefix of the kind. Losses are in
    bits per token, ``wall`` in seconds since the process started, ``accuracy`` in percent.
    """
    match = _RECORD.search(line)
    if match is None:
        return None
    kind, text = match.groups()
    try:
        numbers = json.loads(text).items()
        return kind, {key.removeprefix(f"{kind}_"): float(value) for key, value in numbers}
    except (ValueError, TypeError):  # a kill cut the line off, and the next one was appended
        return None


def curves(path):
    """``updates`` at the ends of epochs, and over them ``train_nll`` (bits), ``train_accuracy``
    (percent), ``valid_nll`` and ``valid_accuracy``, of a log file.

    Where an epoch was trained again after an interruption, the later record counts. An epoch
    that was not validated is left out. ``None`` where the criterion logs no nll or accuracy.
    """
    epochs = {}
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for kind, numbers in filter(None, map(parse, lines)):
            if kind != "train_inner" and "epoch" in numbers:
                epochs.setdefault(numbers["epoch"], {})[kind] = numbers
    whole = [epochs[number] for number in sorted(epochs) if len(epochs[number]) == 2]
    values = {"updates": [int(epoch["valid"]["num_updates"]) for epoch in whole]}
    for part in ("train", "valid"):
        for name, key in (("nll", "nll_loss"), ("accuracy", "accuracy")):
            if any(key not in epoch[part] for epoch in whole):
                return None
            values[f"{part}_{name}"] = [epoch[part][key] for epoch in whole]
    return values


class Progress:
    """Prints the progress of the runs from time to time, and how long all of them will take."""

    def __init__(self, runs):
        self.runs, self.shares, self.said = runs, {}, {}
        self.start, self.gained = time.monotonic(), 0.0

    def see(self, run, line):
        """Take a line of a training's log."""
        kind, numbers = parse(line) or (None, None)
        if kind == "valid":
            forms = {"nll_loss": "nll {:.3f} bits", "accuracy": "accuracy {:.1f} %"}
            values = [form.format(numbers[key]) for key, form in forms.items() if key in numbers]
            print(
                f"{run.name:12} epoch {numbers['epoch']:3.0f}  "
                f"validation: {', '.join(values) or 'done'}"
            )
        elif kind == "train_inner":
            updates, epochs = run.checked.max_update, run.checked.max_epoch
            share = numbers["num_updates"] / (updates or math.inf)
            share = min(max(share, numbers["update"] / (epochs or math.inf)), 1)
            # What was trained before this start is no gain.
            self.gained += share - self.shares.get(run.folder, share)
            self.shares[run.folder] = share
            now = time.monotonic()
            if now - self.said.get(run.folder, -math.inf) < SECONDS_BETWEEN_LINES:
                return
            self.said[run.folder] = now
            print(
                f"{run.name:12} update {numbers['num_updates']:6.0f}  loss {numbers['loss']:.3f} "
                f"bits, {numbers['wps']:,.0f} tokens/s{self.left(now)}"
            )

    def left(self, now):
        """How many runs are trained, and how long the others take, as far as that is known."""
        waiting = [run for run in self.runs if not run.is_trained]
        count = len(self.runs)
        text = f"; {count - len(waiting)} of {count} runs trained" if count > 1 else ""
        if self.gained > 0:
            shares = sum(1 - self.shares.get(run.folder, 0) for run in waiting)
            minutes = max(round((now - self.start) * shares / self.gained / 60), 1)
            text += f", about {timedelta(minutes=minutes)} left"
        return text
