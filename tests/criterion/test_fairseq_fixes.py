"""fairseq leaves sentences out of its batches in silence; the extension says so."""

import inspect

import numpy as np
import pytest
from fairseq.data import data_utils

from el_fairseq.fairseq_fixes import warn_of_dropped_sentences


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    monkeypatch.setattr(data_utils, "batch_by_size", inspect.unwrap(data_utils.batch_by_size))
    warn_of_dropped_sentences()


def batches(sentences, multiple):
    lengths = np.arange(1, sentences + 1)
    return data_utils.batch_by_size(
        iter(range(sentences)),
        num_tokens_fn=lengths.__getitem__,
        num_tokens_vec=lengths,
        max_sentences=16,
        required_batch_size_multiple=multiple,
    )


def drops():
    return sum(map(len, batches(53, 8))) < 53


def test_one_warning_says_how_many_sentences_are_left_out_and_how_to_keep_them(caplog):
    if not drops():
        assert not caplog.messages  # stock fairseq 0.12.2 keeps them
        return
    batches(50, 8)
    (message,) = [m for m in caplog.messages if "leaves out" in m]
    assert "5 of these 53 sentences" in message
    assert "--required-batch-size-multiple 1" in message


def test_there_is_no_warning_where_every_sentence_is_kept(caplog):
    assert sum(map(len, batches(53, 1))) == 53
    assert sum(map(len, batches(48, 8))) == 48
    assert not caplog.messages
