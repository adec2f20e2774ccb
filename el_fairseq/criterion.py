"""The criterion ``encouraging_loss`` for fairseq."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)

from .loss import check_options, encouraging_loss_of_rows


@dataclass
class EncouragingLossCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    label_smoothing: float = field(
        default=0.0,
        metadata={
            "help": "epsilon of label smoothing in [0, 1), as in label_smoothed_cross_entropy; "
            "0.1 is customary for translation, 0 switches it off"
        },
    )
    log_end: float = field(
        default=0.5,
        metadata={
            "help": "probability in (0, 1] up to which the bonus follows log(1-p), and its "
            "tangent from there on: 0.5 is safe everywhere, 0.75 for tasks where the model gets "
            "most tokens right, 1 is the normal bonus, unbounded"
        },
    )
    report_accuracy: bool = field(
        default=False,
        metadata={
            "help": "log the percentage of target tokens that the model ranks first; choose it "
            "to see how much of the training the bonus acts on"
        },
    )
    ignore_prefix_size: int = field(
        default=0,
        metadata={
            "help": "leave the first N target tokens of each sentence out of the loss; choose 1 "
            "where it begins with a language tag, 0 otherwise"
        },
    )


@register_criterion("encouraging_loss", dataclass=EncouragingLossCriterionConfig)
class EncouragingLossCriterion(LabelSmoothedCrossEntropyCriterion):
    """fairseq's ``label_smoothed_cross_entropy`` plus the bonus of arXiv 2110.06537.

    Everything but the loss itself is inherited: label smoothing (fairseq's convention,
    ``q_y = 1 - eps`` and ``eps / (V - 1)`` elsewhere), accuracy, and the logged loss, nll_loss
    and ppl (in bits), so that the curves of CE and EL runs compare.
    """

    def __init__(
        self,
        task,
        sentence_avg,
        label_smoothing,
        log_end,
        ignore_prefix_size=0,
        report_accuracy=False,
    ):
        check_options(log_end, label_smoothing)
        if ignore_prefix_size < 0:
            raise ValueError(
                f"ignore_prefix_size is {ignore_prefix_size}, expected 0 or more target tokens"
            )
        super().__init__(task, sentence_avg, label_smoothing, ignore_prefix_size, report_accuracy)
        self.log_end = log_end

    @classmethod
    def build_criterion(cls, cfg, task):
        """Build from the command line's options; a wrong one ends the program with one line."""
        try:
            return super().build_criterion(cfg, task)
        except ValueError as error:
            raise SystemExit(f"criterion encouraging_loss: {error}") from None

    def compute_loss(self, model, net_output, sample, reduce=True):
        # Log-probabilities take the logits' place: log_softmax leaves them as they are, and
        # models that compute them in their own way (adaptive softmax, copying) are served too.
        lprobs, target = self.get_lprobs_and_target(model, net_output, sample)
        classes = lprobs.size(-1)
        loss, nll_loss = encouraging_loss_of_rows(
            lprobs,
            target,
            log_end=self.log_end,
            label_smoothing=self.eps * classes / (classes - 1),
            ignore_index=self.padding_idx,
        )
        if reduce:
            return loss.sum(), nll_loss.sum()
        return loss.unsqueeze(-1), nll_loss.unsqueeze(-1)
