"""What today's fairseq packages get wrong, set right while the extension is loaded."""

import functools
import logging
import types

import numpy as np
from fairseq.data import data_utils
from torch import distributed

logger = logging.getLogger(__name__)


def warn_of_dropped_sentences():
    """Have fairseq say, once, that it leaves sentences out.

    Its main branch, and so ve-fairseq, drops the last batch of a data set where its size is no
    multiple of ``--required-batch-size-multiple``, which is 8 unless given, and says nothing.
    No part of fairseq that an extension is asked about knows both the option and the data, so
    the function that composes the batches is the one that is watched.
    """
    batch_by_size = data_utils.batch_by_size

    @functools.wraps(batch_by_size)
    def watched_batch_by_size(indices, *args, **kwargs):
        if not isinstance(indices, np.ndarray):
            indices = np.fromiter(indices, dtype=np.int64)
        batches = batch_by_size(indices, *args, **kwargs)
        given, kept = len(indices), sum(len(batch) for batch in batches)
        if kept < given and not watched_batch_by_size.warned:
            watched_batch_by_size.warned = True
            if not distributed.is_initialized() or distributed.get_rank() == 0:
                logger.warning(
                    "fairseq leaves out %d of these %d sentences, the longest: a last batch whose "
                    "size is no multiple of --required-batch-size-multiple (8 by default) is "
                    "dropped, in validation and test sets too. "
                    "Give --required-batch-size-multiple 1 to keep every sentence",
                    *(given - kept, given),
                )
        return batches

    watched_batch_by_size.warned = False
    data_utils.batch_by_size = watched_batch_by_size


def restore_numpy_long():
    """Give numpy 2 the ``numpy.compat.long`` that fairseq still asks for.

    Without it language models end in an AttributeError under ``--sample-break-mode eos``, and
    translation does under ``--num-batch-buckets``.
    """
    if not hasattr(np, "compat"):
        np.compat = types.SimpleNamespace(long=int)
