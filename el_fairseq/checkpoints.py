"""Checkpoints: safe loading of fairseq's."""

import argparse

import torch


def trust_fairseq_checkpoints():
    """Let torch's safe loader (``weights_only``, the default since 2.6) read fairseq checkpoints.

    Besides tensors and plain containers they hold one class, ``argparse.Namespace``, which runs
    no code when it is loaded. A checkpoint that carries anything else is still refused. Versions
    of torch that have no such list (before 2.4) are left as they are.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([argparse.Namespace])
