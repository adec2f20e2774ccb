"""What fairseq-train logged with ``--log-format json``: records, and curves over epochs."""

import json
import re
from pathlib import Path

_RECORD = re.compile(r"\| INFO \| (train_inner|train|valid) \| (\{.*\})\s*$")


def parse(line):
    """Return (kind, numbers) of a log line, or ``None`` where it holds no record.

    ``kind`` is ``train_inner`` (every ``--log-interval`` updates), ``train`` (end of an epoch)
    or ``valid``; the numbers keep fairseq's names, without the prefix of the kind. Losses are in
    bits per token, ``wall`` in seconds since the first start, ``accuracy`` in percent.
    """
    match = _RECORD.search(line)
    if match is None:
        return None
    kind, text = match.groups()
    numbers = {
        key[len(kind) + 1 :] if key.startswith(kind + "_") else key: float(value)
        for key, value in json.loads(text).items()
    }
    return kind, numbers


def epochs(path):
    """One dict an epoch with the records ``train`` and ``valid``, by epoch, of a log file.

    Where an epoch was trained again after an interruption, the later record counts.
    """
    found = {}
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for record in filter(None, map(parse, lines)):
            kind, numbers = record
            if kind != "train_inner":
                found.setdefault(int(numbers["epoch"]), {})[kind] = numbers
    return [found[epoch] for epoch in sorted(found)]
