"""Options that are passed to fairseq, parsed by fairseq and checked.

An option either leaves a run and its scores what their names say, or it is refused by name.
"""

import math
import re
import shlex

from ..common.cli import UserError
from ..loss import checked_spec

# Options that are refused, by the reason; el_fairseq decides these itself.
REFUSED_IN_TRAINING = {
    "name seeds by --seeds, or as the argument of train.sh": "--seed",
    "name the run's folder by --out (train.sh) or --runs": "--save-dir",
    "the corpus says it": "--train-subset --valid-subset --source-lang -s --target-lang -t",
    "the runs use el_fairseq's": "--user-dir",
    "a run keeps whole checkpoints by fairseq's names and goes on from its own "
    "(--finetune-from-model begins with others)": "--no-save --no-save-optimizer-state "
    "--no-last-checkpoints --checkpoint-suffix --restore-file --reset-optimizer "
    "--reset-lr-scheduler --reset-meters --reset-dataloader --optimizer-overrides",
    "the best checkpoint and the tables need it": "--disable-validation",
    "the run's train.log and tensorboard/ have it": "--log-format --log-file --tensorboard-logdir",
    "reproduce.sh and train.sh have --cpu and --gpus-per-run, before --": "--cpu --device-id "
    "--local_rank --distributed-world-size --distributed-rank --distributed-no-spawn "
    "--distributed-init-method",
}
# What may change in a translation without changing what its score means.
DECODING = """
--beam --lenpen --unkpen --temperature --max-len-a --max-len-b --min-len --no-repeat-ngram-size
--match-source-len --unnormalized --no-early-stop --sampling --sampling-topk --sampling-topp
--diverse-beam-groups --diverse-beam-strength --diversity-rate --lm-path --lm-weight --seed
--batch-size --max-sentences --max-tokens --num-workers --fp16 --bf16 --cpu --no-progress-bar
--iter-decode-eos-penalty --iter-decode-max-iter --iter-decode-force-max-iter
--iter-decode-with-beam
"""


def check_training(experiment, loss, given=()):
    """Check that a training is what its name says, by all options that it gets.

    These are its experiment's own, those of one of its losses, and those ``given`` on the command
    line after ``--``. Returns them as fairseq reads them, a namespace.
    """
    from ..criterion import EncouragingLossCriterionConfig

    # Those that make a loss another one.
    names = {"criterion", *EncouragingLossCriterionConfig.__annotations__}
    names -= {"fused_projection", "no_inplace"}
    of_a_loss = ["--" + name.replace("_", "-") for name in names]
    own_options = "the experiment's [losses] have options of their own, and --losses chooses some"
    refused = {flag: why for why, some in REFUSED_IN_TRAINING.items() for flag in some.split()}
    of_all = {**dict.fromkeys(of_a_loss, own_options), **refused}
    own, of_loss = experiment.train.options, experiment.losses[loss]
    for place, words, table in (
        ("[train] options", own, of_all),
        (f"the options of the loss {loss}", of_loss, refused),
        ("the options after --", given, of_all),
    ):
        for flag in _flags(words):
            if flag in table:
                raise UserError(f"{flag} in {place} is refused: {table[flag]}")
    if "--criterion" not in _flags(of_loss):  # fairseq would take cross_entropy
        raise UserError(f"the loss {loss} has no --criterion: name it in [losses]")
    words = [*own, *of_loss, *given]
    everything = _read("training", words, f"the options of {loss}")
    if not hasattr(everything, "source_lang"):
        raise UserError(
            f"--task {everything.task} is refused: the runs translate from one language into "
            "another; leave it out"
        )
    if not (everything.max_epoch or everything.max_update or everything.stop_time_hours > 0):
        raise UserError(
            "neither --max-epoch nor --max-update is given: say in [train] how long to train"
        )
    if everything.criterion == "encouraging_loss":  # fairseq's parser does not know the ranges
        names = ("log_end", "label_smoothing", "bonus_start", "bonus_weight", "base_loss")
        try:
            checked_spec(**{name: getattr(everything, name) for name in names})
        except ValueError as error:
            raise UserError(f"the loss {loss}: {error}") from None
    _check_checkpoints(everything, experiment.evaluate.last)
    return everything


def check_decoding(words):
    """Check that options of fairseq-generate leave a score what it is: see :data:`DECODING`.

    Returns all options as fairseq reads them, a namespace.
    """
    for flag in _flags(words):
        if flag not in DECODING.split():
            raise UserError(
                f"{flag} is refused for fairseq-generate: a score is that of the best hypothesis "
                "of every sentence of a test set (--subset), by one model (--last, --best), in "
                f"plain text. Allowed are {', '.join(sorted(DECODING.split()))}"
            )
    return _read("generation", words, "the options of fairseq-generate")


def _flags(words):
    """The options in ``words``, as written. fairseq's parsers know no abbreviations."""
    flags = [word for word in words if re.match("--|-[a-zA-Z]", word)]
    return [flag.partition("=")[0] if flag.startswith("--") else flag[:2] for flag in flags]


def _read(purpose, words, what):
    from fairseq import options

    from .. import criterion  # noqa: F401  (registers it)

    def refuse(message):
        reason, _, choices = message.partition(" (choose from")
        raise UserError(f"fairseq refuses {what}: {reason if len(choices) > 200 else message}")

    parser = getattr(options, f"get_{purpose}_parser")()
    parser.error = refuse
    try:
        return options.parse_args_and_arch(parser, ["DATA", *words])
    except (ValueError, KeyError) as error:
        raise UserError(f"fairseq refuses {what}: {error}") from None


def divided_update_freq(everything, gpus):
    """``--update-freq`` with which ``gpus`` share the batch that one alone has."""
    if gpus <= 1:
        return []
    before = everything.update_freq
    if any(number % gpus for number in before):
        raise UserError(
            f"--update-freq is {','.join(map(str, before))}, which is not divisible by {gpus} "
            "GPUs: leave out --gpus-per-run, or halve --max-tokens and double --update-freq in the "
            "experiment until it is divisible"
        )
    return ["--update-freq", ",".join(str(number // gpus) for number in before)]


def _check_checkpoints(everything, last):
    """Raise :class:`UserError` where a training will not keep the ``last`` epochs to average."""
    kept, epochs = everything.keep_last_epochs, everything.max_epoch or math.inf
    for name, left in (
        ("--no-epoch-checkpoints", 0 if everything.no_epoch_checkpoints else math.inf),
        ("--keep-last-epochs", kept if kept > 0 else math.inf),
        ("--max-epoch, by --save-interval,", epochs // everything.save_interval),
    ):
        if last > left:
            raise UserError(
                f"{last} epoch checkpoints are to be averaged, but {name} leaves {left:.0f}: lower "
                "--last, or change that option"
            )


def shared_options(options, loss, own):
    """The options of a run, but for the seed and those that its loss has for its own."""
    size = len(own)
    at = next((i for i in range(len(options)) if options[i : i + size] == own), None)
    if at is None:
        raise UserError(
            f"the experiment's loss {loss} has the options {shlex.join(own)}, expected some "
            f"of those that its run was trained with: {shlex.join(options)}"
        )
    rest = [*options[:at], *options[at + size :]]
    seed = rest.index("--seed")
    return [word for word in [*rest[:seed], *rest[seed + 2 :]] if word != "--report-accuracy"]
