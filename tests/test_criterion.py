"""The criterion against fairseq's own, in this process and in real runs of fairseq-train."""

import copy
import json
import types
from argparse import Namespace

import pytest
import torch
from conftest import ROOT, run, succeed
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.models.transformer import TransformerModel, base_architecture
from fairseq.models.transformer_lm import TransformerLanguageModel, base_lm_architecture
from formula import literal_losses
from torch import nn

from el_fairseq import EncouragingLossCriterion
from el_fairseq.criterion import comes_from_projection, predicts_by_softmax

DICTIONARY = Dictionary()
for number in range(17):
    DICTIONARY.add_symbol(f"word{number}")
SIZE, PAD = len(DICTIONARY), DICTIONARY.pad()
TRANSFORMER = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in [
        ("layers", 1),
        ("embed_dim", 8),
        ("ffn_embed_dim", 8),
        ("attention_heads", 2),
    ]
}


class Task:
    """As much of a fairseq task as criterions and models look at."""

    target_dictionary = source_dictionary = DICTIONARY

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        model.train()
        return criterion(model, sample)


def translation_model(**options):
    torch.manual_seed(1)
    args = Namespace(
        dropout=0.0, max_source_positions=64, max_target_positions=64, **TRANSFORMER, **options
    )
    base_architecture(args)
    return TransformerModel.build_model(args, Task()).double()


def language_model(**options):
    torch.manual_seed(1)
    args = Namespace(dropout=0.0, max_target_positions=64, **TRANSFORMER, **options)
    base_lm_architecture(args)
    args.tokens_per_sample = 64
    return TransformerLanguageModel.build_model(args, Task()).double()


def sample(language_modeling=False):
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(4, SIZE, (3, 6), generator=generator)
    target = torch.randint(4, SIZE, (3, 6), generator=generator)
    target[1, 4:] = PAD
    net_input = {"src_tokens": tokens, "src_lengths": torch.tensor([6, 6, 6])}
    if not language_modeling:
        net_input["prev_output_tokens"] = target.roll(1, 1)
    return {"net_input": net_input, "target": target, "ntokens": int(target.ne(PAD).sum())}


def criterion(task=None, label_smoothing=0.1, **options):
    return EncouragingLossCriterion(task or Task(), False, label_smoothing, **options)


def cross_entropy(label_smoothing=0.1, **options):
    return LabelSmoothedCrossEntropyCriterion(Task(), False, label_smoothing, **options)


def train_once(criterion, model, sample, reduce=True):
    """Logging output (numbers), loss and gradients of one training step."""
    model = copy.deepcopy(model).train()
    loss, sample_size, log = criterion(model, sample, reduce=reduce)
    loss.sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    log = {k: v if torch.is_tensor(v) else torch.tensor(v) for k, v in log.items()}
    return {"loss": loss.detach(), "size": sample_size, "log": log, "gradients": gradients}


class CopyingModel(TransformerModel):
    """Has its own probabilities: half of them the softmax, half of them uniform."""

    def get_normalized_probs(self, net_output, log_probs, sample=None):
        probs = net_output[0].softmax(-1) / 2 + 0.5 / net_output[0].size(-1)
        return probs.log() if log_probs else probs


def copying_model():
    model = translation_model()
    model.__class__ = CopyingModel
    return model


MODELS = {
    "untied": (translation_model, {}, False),
    "tied": (translation_model, {"share_decoder_input_output_embed": True}, False),
    "language model": (language_model, {}, True),
    "tied language model": (language_model, {"share_decoder_input_output_embed": True}, True),
    "own probabilities": (copying_model, {}, False),
}


@pytest.fixture(params=MODELS)
def model_and_sample(request):
    build, options, language_modeling = MODELS[request.param]
    return build(**options), sample(language_modeling)


@pytest.fixture
def model():
    return translation_model()


@pytest.fixture
def adaptive_model():
    return translation_model(adaptive_softmax_cutoff="8,12")


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_with_the_bonus_off_loss_log_and_gradients_are_those_of_fairseqs_cross_entropy(
    model_and_sample, label_smoothing, reduce
):
    options = {"label_smoothing": label_smoothing, "report_accuracy": True}
    actual = train_once(criterion(bonus_weight=0.0, **options), *model_and_sample, reduce)
    expected = train_once(cross_entropy(**options), *model_and_sample, reduce)
    # fairseq takes log-probabilities in float32, also of float64 logits.
    torch.testing.assert_close(actual, expected, check_dtype=False, rtol=1e-4, atol=1e-5)


def test_adaptive_softmax_is_served_through_its_log_probabilities(adaptive_model):
    # Without gradients: fairseq's adaptive log-probabilities overwrite what autograd has saved.
    assert not predicts_by_softmax(adaptive_model)
    with torch.no_grad():
        actual = criterion(bonus_weight=0.0, report_accuracy=True)(adaptive_model, sample())
        expected = cross_entropy(report_accuracy=True)(adaptive_model, sample())
    torch.testing.assert_close(actual, expected, check_dtype=False)


@pytest.mark.parametrize("log_end", [0.5, 1.0])
def test_the_loss_is_the_literal_formula_in_fairseqs_convention(model_and_sample, log_end):
    model, data = model_and_sample
    net_output = model(**data["net_input"])
    log_probs = model.get_normalized_probs(net_output, log_probs=True, sample=data)
    kept = data["target"].ne(PAD)
    expected = literal_losses(
        log_probs[kept], data["target"][kept], log_end, label_smoothing=0.1 * SIZE / (SIZE - 1)
    ).sum()
    actual = train_once(criterion(log_end=log_end), model, data)["loss"]
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "own probabilities"])
def test_the_fused_projection_changes_nothing_but_the_memory(name):
    build, options, language_modeling = MODELS[name]
    model, data = build(**options), sample(language_modeling)
    plain = train_once(criterion(report_accuracy=True), model, data)
    fused = train_once(criterion(report_accuracy=True, fused_projection=True), model, data)
    torch.testing.assert_close(fused, plain)


def test_the_fused_projection_refuses_what_it_cannot_serve_by_name(adaptive_model):
    for model, name in ((adaptive_model, "TransformerModel"), (copying_model(), "CopyingModel")):
        with pytest.raises(SystemExit, match=f"cannot serve {name}.*leave"):
            criterion(fused_projection=True)(model, sample())


def test_a_decoder_with_its_own_forward_or_output_layer_is_not_fused(model):
    class OwnOutput(type(model.decoder)):
        def output_layer(self, features):
            return super().output_layer(features) * 2

    model.decoder.__class__ = OwnOutput
    with pytest.raises(SystemExit, match="cannot serve TransformerModel"):
        criterion(fused_projection=True)(model, sample())


def test_in_training_the_gradient_takes_the_place_of_a_transformers_logits(model):
    seen = []
    model.decoder.output_projection.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    assert predicts_by_softmax(model)
    criterion()(model, sample())[0].backward()
    assert seen[0].sum(-1).abs().max() < 1e-9  # rows of a gradient sum to zero
    seen.clear()
    with torch.no_grad():
        criterion()(model.eval(), sample())
    assert seen[0].sum(-1).abs().max() > 1e-3  # in validation they stay what they are


def test_compute_loss_by_itself_leaves_the_logits_alone(model):
    data = sample()
    net_output = model(**data["net_input"])
    before = net_output[0].detach().clone()
    loss, _ = criterion().compute_loss(model, net_output, data)
    loss.backward()
    assert torch.equal(net_output[0], before)


def test_a_subclass_that_reads_the_logits_after_the_loss_reads_logits(model):
    class Reading(EncouragingLossCriterion):
        def compute_loss(self, model, net_output, sample, reduce=True):
            result = super().compute_loss(model, net_output, sample, reduce)
            self.read = net_output[0].detach().clone()
            return result

    reading = Reading(Task(), False, 0.1)
    reading(model, sample())
    assert torch.equal(reading.read, model(**sample()["net_input"])[0])


def test_logits_that_another_operation_saved_or_scaled_are_not_overwritten(model):
    hidden = torch.randn(2, 3, 8, requires_grad=True)
    projection = nn.Linear(8, 5)
    assert comes_from_projection(projection(hidden))
    assert comes_from_projection(nn.Linear(8, 5, bias=False)(hidden).view(6, 5))
    for other in (torch.tanh, torch.exp, lambda x: x * 2, lambda x: x.clone()):
        assert not comes_from_projection(other(projection(hidden)))
    assert not comes_from_projection(hidden)


@pytest.mark.parametrize("prefix", [1, 2])
@pytest.mark.parametrize("reduce", [True, False])
def test_an_ignored_prefix_counts_in_neither_loss_nor_accuracy(model, prefix, reduce):
    options = {"ignore_prefix_size": prefix, "report_accuracy": True}
    actual = train_once(criterion(bonus_weight=0.0, **options), model, sample(), reduce)
    expected = train_once(cross_entropy(**options), model, sample(), reduce)
    torch.testing.assert_close(actual, expected, check_dtype=False, rtol=1e-4, atol=1e-5)


def test_the_mean_squared_error_has_its_own_loss_and_fairseqs_nll(model):
    mse = train_once(criterion(label_smoothing=0.0, base_loss="mse"), model, sample())
    ce = train_once(cross_entropy(label_smoothing=0.0), model, sample())
    torch.testing.assert_close(
        mse["log"]["nll_loss"], ce["log"]["nll_loss"], check_dtype=False, rtol=1e-5, atol=1e-5
    )
    assert (mse["loss"] - ce["loss"]).abs() > 1


@pytest.mark.parametrize(
    ("delay", "warmup", "weights"),
    [
        (2, 0, [0, 0, 1, 1, 1, 1]),
        (0, 4, [0, 0.25, 0.5, 0.75, 1, 1]),
        (2, 2, [0, 0, 0, 0.5, 1, 1]),
    ],
)
def test_the_bonus_waits_for_its_delay_and_rises_over_its_warmup(model, delay, warmup, weights):
    task = Task()
    scheduled = criterion(task, bonus_delay_updates=delay, bonus_warmup_updates=warmup)
    assert scheduled.current_bonus_weight() == 1  # outside of a training
    for update, weight in enumerate(weights):
        loss, sample_size, log = task.train_step(
            sample(), model, scheduled, None, update_num=update
        )
        assert log["bonus_weight"] / sample_size == pytest.approx(weight)
        expected = criterion(bonus_weight=float(weight))(model, sample())[0]
        torch.testing.assert_close(loss, expected)


def test_the_log_shows_the_bonus_of_the_latest_update_not_an_average():
    with metrics.aggregate() as shown:
        for weight in (0.0, 0.25):
            log = {"loss": 1.0, "nll_loss": 1.0, "ntokens": 5, "sample_size": 5}
            EncouragingLossCriterion.reduce_metrics([{**log, "bonus_weight": 5 * weight}] * 2)
    assert shown.get_smoothed_values()["bonus_weight"] == 0.25


def test_the_options_of_the_schedule_leave_an_unscheduled_log_as_fairseqs(model):
    log = criterion()(model, sample())[2]
    assert set(log) == set(cross_entropy()(model, sample())[2])


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """A corpus of random words, as fairseq-preprocess leaves it; and one for language models."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = torch.Generator().manual_seed(3)
    for split, lines in (("train", 60), ("valid", 10)):
        for side in ("de", "en"):
            words = torch.randint(12, (lines, 5), generator=generator).tolist()
            text = "".join(" ".join(f"w{n}" for n in line) + "\n" for line in words)
            (folder / f"{split}.{side}").write_text(text)
    prefixes = ["--trainpref", folder / "train", "--validpref", folder / "valid"]
    languages = ["-s", "de", "-t", "en", "--joined-dictionary"]
    succeed(run(["fairseq-preprocess", *languages, *prefixes, "--destdir", folder / "bin"]))
    prefixes = ["--trainpref", folder / "train.en", "--validpref", folder / "valid.en"]
    succeed(run(["fairseq-preprocess", "--only-source", *prefixes, "--destdir", folder / "lm"]))
    return types.SimpleNamespace(translation=folder / "bin", language_modeling=folder / "lm")


def fairseq_train(data, folder, *options, arch="transformer", log_format="json"):
    small = [
        word
        for name, value in TRANSFORMER.items()
        if arch == "transformer" or name.startswith("decoder")
        for word in (f"--{name.replace('_', '-')}", value)
    ]
    return run(
        [
            *("fairseq-train", data, "--user-dir", ROOT / "el_fairseq", "--cpu"),
            *("--criterion", "encouraging_loss", "--arch", arch, *small),
            *("--optimizer", "adam", "--lr", "0.01", "--max-tokens", "64"),
            *("--required-batch-size-multiple", "1", "--num-workers", "0"),
            *("--save-dir", folder, "--no-epoch-checkpoints", "--log-interval", "1"),
            *("--log-format", log_format, *options),
        ]
    )


def logged(result, key):
    """The values of a key in the log lines of training updates."""
    values = []
    for line in (result.stdout + result.stderr).splitlines():
        if "| INFO | train_inner | {" in line:
            record = json.loads(line.split("| INFO | train_inner | ")[1])
            if key in record:
                values.append(float(record[key]))
    return values


def test_the_schedule_goes_on_after_resuming_and_counts_updates_not_batches(binary, tmp_path):
    options = [
        *("--update-freq", "2", "--bonus-delay-updates", "2", "--bonus-warmup-updates", "4"),
        *("--label-smoothing", "0.1", "--report-accuracy"),
    ]
    first = succeed(
        fairseq_train(binary.translation, tmp_path, *options, "--max-update", "4", "--seed", "1")
    )
    again = succeed(
        fairseq_train(binary.translation, tmp_path, *options, "--max-update", "8", "--seed", "1")
    )
    assert logged(first, "num_updates") == [1, 2, 3, 4]
    assert logged(first, "bonus_weight") == [0, 0, 0, 0.25]
    assert logged(again, "num_updates") == [5, 6, 7, 8]
    assert logged(again, "bonus_weight") == [0.5, 0.75, 1, 1]
    assert logged(again, "accuracy")


@pytest.mark.parametrize("options", [(), ("--fused-projection",)])
def test_language_models_train(binary, tmp_path, options):
    result = succeed(
        fairseq_train(
            binary.language_modeling,
            tmp_path,
            *("--task", "language_modeling", "--tokens-per-sample", "16", "--max-update", "3"),
            *options,
            arch="transformer_lm",
        )
    )
    assert len(logged(result, "ppl")) == 3


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--log-end", "1.5"], "log_end is 1.5, expected a number in (0, 1]"),
        (["--label-smoothing", "1"], "label_smoothing is 1.0, expected a number in [0, 1)"),
        (["--ignore-prefix-size", "-1"], "ignore_prefix_size is -1, expected 0 or more"),
        (["--bonus-delay-updates", "-5"], "bonus_delay_updates is -5, expected 0 or more"),
    ],
)
def test_a_bad_option_ends_fairseq_train_with_one_line_before_it_trains(
    binary, tmp_path, options, reason
):
    result = fairseq_train(binary.translation, tmp_path, *options)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if "| INFO |" not in line]
    assert lines[-1].startswith("criterion encouraging_loss: ")
    assert reason in lines[-1]
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
