"""The encouraging loss, for fairseq (``--user-dir el_fairseq``) and for plain PyTorch.

Importing the package registers the criterion ``encouraging_loss`` and lets torch's safe loader
read fairseq's checkpoints, where fairseq is installed. The loss itself needs torch alone.
"""

import logging

from .checkpoints import trust_fairseq_checkpoints
from .loss import EncouragingLoss, encouraging_loss, linear_encouraging_loss

# Importing fairseq makes every library's debugging messages print; how much is logged, and
# where, stays as it was.
_root = logging.getLogger()
_level, _handlers = _root.level, list(_root.handlers)
try:
    import fairseq  # noqa: F401

    _fairseq_problem = None
except Exception as error:  # stock fairseq fails with a ValueError on Python 3.11 and later
    _fairseq_problem = f"{type(error).__name__}: {error}"

_root.setLevel(_level)
_root.handlers = _handlers

if _fairseq_problem is None:
    from .criterion import EncouragingLossCriterion

    trust_fairseq_checkpoints()

__all__ = [
    "EncouragingLoss",
    "EncouragingLossCriterion",
    "encouraging_loss",
    "linear_encouraging_loss",
]


def __getattr__(name):
    if name == "EncouragingLossCriterion":
        raise ImportError(
            f"el_fairseq.{name} needs fairseq, which does not import here ({_fairseq_problem}); "
            "install one: pip install ve-fairseq==0.12.3 (Python 3.11 and 3.12) or "
            "fairseq==0.12.2 (Python 3.8). The plain loss works without."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
