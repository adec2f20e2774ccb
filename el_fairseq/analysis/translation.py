"""Translations by beam search, as tokens and as text."""

import argparse

import torch
from fairseq.data import data_utils


def translator(task, model, beam):
    """A function from a batch to a list of token tensors, best hypotheses, ending in eos."""
    options = argparse.Namespace(beam=beam, max_len_a=1.2, max_len_b=10)
    generator = task.build_generator(model.networks, options)

    def translate(sample):
        with torch.no_grad():
            found = generator.generate(model.networks, sample)
        return [hypotheses[0]["tokens"] for hypotheses in found]

    return translate


def with_target(task, sample, tokens):
    """The batch with ``tokens`` (a list of tensors that end in eos) as its target."""
    pad, eos = task.target_dictionary.pad(), task.target_dictionary.eos()
    target = data_utils.collate_tokens(tokens, pad, eos)
    shifted = data_utils.collate_tokens(tokens, pad, eos, move_eos_to_beginning=True)
    return {
        **sample,
        "target": target,
        "net_input": {**sample["net_input"], "prev_output_tokens": shifted},
    }
