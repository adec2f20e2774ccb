"""The encouraging loss, for plain PyTorch and for fairseq (``--user-dir el_fairseq``).

Importing the package imports only the loss, which needs torch. If fairseq has been imported before,
as for ``--user-dir``, this also registers the criterion ``encouraging_loss``; otherwise ``import
el_fairseq.criterion`` does. From then on torch's safe loader reads fairseq's checkpoints.
"""

import sys

from .loss import EncouragingLoss, encouraging_loss, linear_encouraging_loss

__version__ = "0.2.0"
__all__ = ["EncouragingLoss", "encouraging_loss", "linear_encouraging_loss"]

if sys.modules.get("fairseq") is not None:
    from . import criterion  # noqa: F401


def __getattr__(name):
    if name != "EncouragingLossCriterion":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .criterion import EncouragingLossCriterion

    return EncouragingLossCriterion
