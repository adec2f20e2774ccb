"""Options that are handed through to fairseq: read by fairseq's own parsers, and judged.

An option either leaves a run and its scores what their names say, or it is refused by name.
"""

import argparse
import shlex

from ..common.cli import UserError
from ..loss import checked_spec

_DATA = "DATA"
_UNSET = object()
_BY_LOSS = "the experiment's [losses] have options of their own, and --losses chooses some of them"

# What a training gets from us, and how that is asked for.
OURS_IN_TRAINING = {
    "seed": "name seeds by --seeds, or as the argument of train.sh",
    "save_dir": "name the run's folder by --out (train.sh) or --runs",
    "no_save": "a run without checkpoints cannot be scored",
    "checkpoint_suffix": "a run's checkpoints are found by fairseq's own names",
    "no_save_optimizer_state": "a training that is stopped could not go on as it was",
    "train_subset": "the corpus says what is trained on",
    "valid_subset": "the corpus says what is validated on",
    "source_lang": "the corpus says which language is the source",
    "target_lang": "the corpus says which language is the target",
    "user_dir": "the runs use el_fairseq's",
    "log_format": "the curves are read from the JSON that is logged",
    "log_file": "the run's train.log has it",
    "tensorboard_logdir": "the run's folder has it, in tensorboard/",
    "restore_file": "a run goes on from its own; --finetune-from-model begins with others",
    **dict.fromkeys(
        (
            *("distributed_world_size", "distributed_rank"),
            *("distributed_no_spawn", "distributed_init_method"),
        ),
        "--gpus-per-run says how many GPUs a training has",
    ),
    "device_id": "CUDA_VISIBLE_DEVICES says which GPUs are seen",
    "cpu": "reproduce.sh and train.sh have --cpu, before --",
}
# What makes a loss another one: for an experiment's [losses] alone.
OF_A_LOSS = (
    *("--criterion", "--log-end", "--bonus-start", "--bonus-weight", "--bonus-delay-updates"),
    *("--bonus-warmup-updates", "--class-weight-power", "--class-weight-smoothing"),
    *("--class-weight-delay-updates", "--base-loss"),
)
# What may change in a translation without changing what its score means.
DECODING = {
    *("beam", "lenpen", "unkpen", "temperature", "max_len_a", "max_len_b", "min_len"),
    *("no_repeat_ngram_size", "match_source_len", "unnormalized", "no_early_stop"),
    *("sampling", "sampling_topk", "sampling_topp", "diverse_beam_groups"),
    *("diverse_beam_strength", "diversity_rate", "lm_path", "lm_weight", "seed"),
    *("batch_size", "max_tokens", "num_workers", "fp16", "bf16", "cpu", "no_progress_bar"),
    *("iter_decode_eos_penalty", "iter_decode_max_iter", "iter_decode_force_max_iter"),
    *("iter_decode_with_beam",),
}
INSTEAD_IN_DECODING = {
    "gen_subset": "--subset names a test set",
    "results_path": "the scores go into the run's folder, and --name keeps others beside them",
    "nbest": "the best hypothesis of each sentence is scored",
    "path": "--last or --best chooses the model",
    "post_process": "the corpus says how its subwords are undone",
    "source_lang": "the corpus says which language is the source",
    "target_lang": "the corpus says which language is the target",
    "score_reference": "it would score the references themselves",
    "prefix_size": "it would show the model the references",
    "scoring": "all scores are sacreBLEU's, on detokenized text",
    "sacrebleu": "all scores are sacreBLEU's, on detokenized text",
    "skip_invalid_size_inputs_valid_test": "a part of a test set is not scored; longer sentences "
    "are translated by a model trained with larger --max-source-positions and "
    "--max-target-positions",
}


def check_training(own, loss, given=()):
    """See that a training is what its name says, by all options that it gets.

    Args:
        own: the experiment's options of fairseq-train.
        loss: a :class:`~.config.Loss`, with its own.
        given: those of the command line, after ``--``.

    Returns:
        All options as fairseq reads them, a namespace.

    Raises:
        UserError: fairseq refuses an option or its value, or it is one that we set.
    """
    from fairseq import options

    refused = dict.fromkeys(OF_A_LOSS, _BY_LOSS)
    refused["--user-dir"] = OURS_IN_TRAINING["user_dir"]  # fairseq's parser would import it
    for place, words in (("[train] options", own), ("the options after --", given)):
        for flag in map(_flag_of, words):
            if flag in refused:
                raise UserError(f"{flag} in {place} is refused: {refused[flag]}")
    if "--criterion" not in map(_flag_of, loss.options):  # fairseq would take cross_entropy
        raise UserError(f"the loss {loss.name} has no --criterion: name it in [losses]")
    parser = options.get_training_parser()
    everything = _read(parser, [*own, *loss.options, *given], f"the options of {loss.name}")
    for place, words in (
        ("the options after --", given),
        ("[train] options", own),
        (f"the options of the loss {loss.name}", loss.options),
    ):
        for name in _set_by(parser, everything, words):
            advice = OURS_IN_TRAINING.get(name)
            if advice:
                raise UserError(f"{_flag(parser, name, words)} in {place} is refused: {advice}")
    if not hasattr(everything, "source_lang"):
        raise UserError(
            f"--task {everything.task} is refused: the runs translate from one language into "
            "another; leave it out"
        )
    if not (everything.max_epoch or everything.max_update or everything.stop_time_hours > 0):
        raise UserError(
            "neither --max-epoch nor --max-update is given: say in [train] options how long to "
            "train"
        )
    _check_loss(loss, everything)
    return everything


def check_decoding(words):
    """See that options of fairseq-generate leave a score what it is: see :data:`DECODING`.

    Returns all options as fairseq reads them, a namespace.

    Raises:
        UserError: fairseq refuses one, or it is none of those.
    """
    from fairseq import options

    parser = options.get_generation_parser()
    everything = _read(parser, words, "the options of fairseq-generate")
    for name in _set_by(parser, everything, words):
        if name not in DECODING:
            advice = INSTEAD_IN_DECODING.get(name, "it is not known to leave a score what it is")
            raise UserError(
                f"{_flag(parser, name, words)} is refused for fairseq-generate: {advice}. "
                "Allowed are " + ", ".join(sorted("--" + one.replace("_", "-") for one in DECODING))
            )
    return everything


def _read(parser, words, what):
    from fairseq import options

    from .. import criterion  # noqa: F401  (registers it)

    def refuse(message):
        reason, _, choices = message.partition(" (choose from")
        raise UserError(f"fairseq refuses {what}: {reason if len(choices) > 200 else message}")

    parser.error = refuse
    try:
        return options.parse_args_and_arch(parser, [_DATA, *words])
    except (ValueError, KeyError) as error:
        raise UserError(f"fairseq refuses {what}: {error}") from None


def _set_by(parser, everything, words):
    """Names (argparse's ``dest``) of the options that ``words`` themselves set."""
    only = argparse.ArgumentParser(add_help=False, parents=[parser])
    only.error = parser.error
    only.set_defaults(**dict.fromkeys(vars(everything), _UNSET))
    found = vars(only.parse_args([_DATA, *words]))
    if found.pop("data", _DATA) != _DATA:
        raise UserError(f"{shlex.join(words)}: the data is named by --data, before --")
    return [name for name, value in found.items() if value is not _UNSET]


def _flag_of(word):
    return word.partition("=")[0]


def _flag(parser, name, words):
    """An option as it was written in ``words``."""
    (action,) = (one for one in parser._actions if one.dest == name)
    written = set(map(_flag_of, words))
    return next((flag for flag in action.option_strings if flag in written), f"--{name}")


def _check_loss(loss, everything):
    """The ranges of our criterion's options, which fairseq's parser does not know."""
    if everything.criterion != "encouraging_loss":
        return
    names = ("log_end", "label_smoothing", "bonus_start", "bonus_weight", "base_loss")
    try:
        checked_spec(**{name: getattr(everything, name) for name in names})
    except ValueError as error:
        raise UserError(f"the loss {loss.name}: {error}") from None


def divided_update_freq(everything, gpus):
    """``--update-freq`` with which ``gpus`` share the batch that one alone has.

    Raises:
        UserError: it is not divisible.
    """
    if gpus == 1:
        return []
    before = everything.update_freq
    if any(number % gpus for number in before):
        raise UserError(
            f"--update-freq is {','.join(map(str, before))}, which {gpus} GPUs cannot share "
            "without another batch: leave out --gpus-per-run, or halve --max-tokens and double "
            "--update-freq in the experiment until it can be divided"
        )
    return ["--update-freq", ",".join(str(number // gpus) for number in before)]


def check_checkpoints(everything, last):
    """Raise :class:`UserError` where a training will not keep the ``last`` epochs to average."""
    if not last:
        return
    for name in ("keep_last_epochs", "max_epoch"):
        kept = getattr(everything, name) or 0
        if 0 < kept < last:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{last} epoch checkpoints are to be averaged, but {flag} is {kept}: lower --last "
                f"to {kept}, or raise {flag}"
            )
    epochs, interval = everything.max_epoch or 0, everything.save_interval
    if 0 < epochs < last * interval:
        raise UserError(
            f"{last} epoch checkpoints are to be averaged, but --max-epoch is {epochs} and "
            f"--save-interval {interval}: leave out --save-interval, or raise --max-epoch"
        )
    if everything.no_epoch_checkpoints:
        raise UserError(
            f"{last} epoch checkpoints are to be averaged, but --no-epoch-checkpoints keeps none: "
            "take it out, or set last = 0 and best = true in the experiment"
        )


def shared_options(options, loss):
    """The options of a run that every loss of its experiment has, the seed aside."""
    own, size = loss.options, len(loss.options)
    at = next(i for i in range(len(options)) if options[i : i + size] == own)
    rest = [*options[:at], *options[at + size :]]
    seed = rest.index("--seed")
    return [word for word in [*rest[:seed], *rest[seed + 2 :]] if word != "--report-accuracy"]
