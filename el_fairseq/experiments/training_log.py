"""What fairseq-train logged with ``--log-format json``: records, and curves over epochs."""

import json
import re
from pathlib import Path

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
    that was not validated is left out.
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
            values[f"{part}_{name}"] = [epoch[part][key] for epoch in whole]
    return values
