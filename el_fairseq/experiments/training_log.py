"""What fairseq-train logged with ``--log-format json``: records, and curves over epochs."""

import json
import math
import re
from pathlib import Path

from ..common.cli import UserError

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
        numbers = {
            key[len(kind) + 1 :] if key.startswith(kind + "_") else key: float(value)
            for key, value in json.loads(text).items()
        }
    except (ValueError, TypeError):  # a kill cut the line off, and the next one was appended
        return None
    return kind, numbers


def share_done(numbers, options):
    """Share of a training that is done, by a record ``train_inner`` and fairseq's options."""
    ends = ((numbers["num_updates"], options.max_update), (numbers["update"], options.max_epoch))
    return min(max(now / (end or math.inf) for now, end in ends), 1)


def epochs(path):
    """One dict an epoch with the records ``train`` and ``valid``, by epoch, of a log file.

    Where an epoch was trained again after an interruption, the later record counts. An epoch
    that was not validated has no ``valid``.

    Raises:
        UserError: there is no such file.
    """
    found = {}
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as lines:
            for record in filter(None, map(parse, lines)):
                kind, numbers = record
                if kind != "train_inner" and "epoch" in numbers:
                    found.setdefault(int(numbers["epoch"]), {})[kind] = numbers
    except FileNotFoundError:
        raise UserError(f"there is no {path}: train that run again in another folder") from None
    return [found[epoch] for epoch in sorted(found)]
