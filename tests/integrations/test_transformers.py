"""The loss in Hugging Face's Trainer, with random models of a few thousand parameters."""

import subprocess
import sys
import warnings
from typing import ClassVar

import pytest
import torch
from formula import literal_losses

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        BertConfig,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        MarianConfig,
        MarianMTModel,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.modeling_outputs import CausalLMOutput, ModelOutput, MoeCausalLMOutputWithPast

from el_fairseq.integrations.transformers import encouraging_loss_func

VOCABULARY, LENGTH = 19, 7
SMALL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": VOCABULARY}


def language_model():
    torch.manual_seed(1)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**SMALL, **sizes, **drop))


def translation_model(config=MarianConfig, model=MarianMTModel):
    torch.manual_seed(1)
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in [("layers", 1), ("ffn_dim", 8), ("attention_heads", 2)]
    }
    others = {"d_model": 8, "max_position_embeddings": 16, "dropout": 0.0}
    return model(config(**SMALL, **sides, **others, decoder_start_token_id=0))


def examples(model, count=8):
    """Examples of different lengths, padded; the second has no target at all.

    The first label is never one, as no position of a decoder-only model predicts it: the Trainer
    counts it among the items of a batch all the same for models that it does not know.
    """
    draw = torch.Generator().manual_seed(2)
    made = []
    for number in range(count):
        tokens = torch.randint(3, VOCABULARY, (LENGTH,), generator=draw)
        labels = tokens.clone()
        labels[3 + number % 5 :] = -100
        labels[0] = -100
        if number == 1:
            labels[:] = -100
        example = {"input_ids": tokens, "labels": labels}
        if model.config.is_encoder_decoder:
            ids = model.prepare_decoder_input_ids_from_labels(labels.unsqueeze(0))
            example["decoder_input_ids"] = ids[0]
        made.append(example)
    return made


def trainer(model, folder, loss=None, data=None, kind=(Trainer, TrainingArguments), **options):
    options = {"per_device_train_batch_size": 8, "max_steps": 1, "max_grad_norm": 0.0, **options}
    arguments = kind[1](
        output_dir=str(folder),
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        disable_tqdm=True,
        **options,
    )
    data = data or examples(model)
    return kind[0](model, arguments, train_dataset=data, eval_dataset=data, compute_loss_func=loss)


def trained(build, folder, loss=None, **options):
    """The first training loss, and all parameters after the steps of a training by SGD."""
    model = build()
    of_training = trainer(model, folder, loss, **options)
    of_training.train()
    return of_training.state.log_history[0]["loss"], dict(model.named_parameters())


def shifted(labels):
    return torch.cat([labels[:, 1:], torch.full((len(labels), 1), -100)], 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("build", [language_model, translation_model])
def test_without_the_bonus_a_step_is_that_of_the_trainers_own_loss(build, smoothing, tmp_path):
    actual = trained(
        build, tmp_path, encouraging_loss_func(bonus_weight=0.0, label_smoothing=smoothing)
    )
    expected = trained(build, tmp_path, label_smoothing_factor=smoothing)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [language_model, translation_model])
def test_the_loss_is_the_formula_on_the_labels_that_the_model_predicts(build, tmp_path):
    model = build()
    batch = {name: torch.stack([e[name] for e in examples(model)]) for name in examples(model)[0]}
    labels = batch.pop("labels")
    target = shifted(labels) if build is language_model else labels
    kept = target != -100
    with torch.no_grad():
        logits = model(**batch).logits[kept]
    expected = literal_losses(logits, target[kept], 0.75, 0.1).mean().item()
    loss = encouraging_loss_func(log_end=0.75, label_smoothing=0.1)
    assert trained(build, tmp_path, loss)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("build", [language_model, translation_model])
def test_accumulated_batches_give_the_step_of_one_large_batch(build, tmp_path):
    whole = trained(build, tmp_path, encouraging_loss_func())
    parts = trained(
        build,
        tmp_path,
        encouraging_loss_func(),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
    )
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_label_smoothing_of_the_training_arguments_is_applied_once(tmp_path):
    given = trained(language_model, tmp_path, encouraging_loss_func(label_smoothing=0.1))
    for loss in (encouraging_loss_func(), encouraging_loss_func(label_smoothing=0.1)):
        both = trained(language_model, tmp_path, loss, label_smoothing_factor=0.1)
        torch.testing.assert_close(both, given)


def test_two_values_of_label_smoothing_are_refused(tmp_path):
    loss = encouraging_loss_func(label_smoothing=0.0)
    with pytest.raises(ValueError, match=r"label_smoothing is 0.0 but .*factor is 0.1"):
        trained(language_model, tmp_path, loss, label_smoothing_factor=0.1)


@pytest.mark.parametrize("build", [language_model, translation_model])
def test_evaluation_shows_the_loss_of_cross_entropy_beside_its_own(build, tmp_path):
    options = {"per_device_eval_batch_size": 3, "label_smoothing_factor": 0.1}
    expected = trainer(build(), tmp_path, **options).evaluate()["eval_loss"]
    of_training = trainer(build(), tmp_path, encouraging_loss_func(), **options)
    metrics = of_training.evaluate()
    assert metrics["eval_loss_without_bonus"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_loss"] < metrics["eval_loss_without_bonus"]
    logged = of_training.state.log_history[-1]
    assert logged["eval_loss_without_bonus"] == metrics["eval_loss_without_bonus"]
    predicted = of_training.predict(examples(of_training.model)).metrics
    assert predicted["test_loss_without_bonus"] == pytest.approx(expected, rel=1e-5)


def test_every_evaluation_in_training_is_reported_to_other_callbacks_too(tmp_path):
    class Seen(TrainerCallback):
        logs: ClassVar = []

        def on_log(self, args, state, control, logs, **kwargs):
            self.logs.append(dict(logs))

    of_training = trainer(
        language_model(),
        tmp_path,
        encouraging_loss_func(),
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
    )
    of_training.add_callback(Seen())
    of_training.train()
    losses = [log["eval_loss_without_bonus"] for log in Seen.logs if "eval_loss" in log]
    assert len(losses) == 2
    assert losses[0] != losses[1]


def test_half_precision_comes_near_single_precision(tmp_path):
    single = trained(language_model, tmp_path, encouraging_loss_func())
    half = trained(language_model, tmp_path, encouraging_loss_func(), bf16=True)
    assert half[0] == pytest.approx(single[0], rel=1e-2)
    torch.testing.assert_close(half[1], single[1], rtol=0.05, atol=0.02)


def test_classifiers_are_served(tmp_path):
    def build():
        torch.manual_seed(1)
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        drop = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        config = BertConfig(vocab_size=VOCABULARY, intermediate_size=8, **sizes, **drop)
        return BertForSequenceClassification(config)

    data = [{"input_ids": torch.arange(3 + n % 2, 8 + n % 2), "label": n % 2} for n in range(8)]
    actual = trained(build, tmp_path, encouraging_loss_func(bonus_weight=0.0), data=data)
    torch.testing.assert_close(actual, trained(build, tmp_path, data=data))


def test_an_encoder_decoder_whose_labels_were_taken_away_is_refused(tmp_path):
    def build():
        return translation_model(BartConfig, BartForConditionalGeneration)

    data = examples(build())
    for example in data:
        del example["decoder_input_ids"]
    with pytest.raises(ValueError, match=r"no decoder_input_ids.*DataCollatorForSeq2Seq"):
        trained(build, tmp_path, encouraging_loss_func(), data=data)


def test_a_seq2seq_trainer_that_generates_says_whose_loss_it_reports(tmp_path, caplog):
    loss = encouraging_loss_func()
    kind = (Seq2SeqTrainer, Seq2SeqTrainingArguments)
    of_training = trainer(
        translation_model(), tmp_path, loss, kind=kind, predict_with_generate=True
    )
    logger = "el_fairseq.integrations.transformers"
    with caplog.at_level("WARNING", logger=logger):
        of_training.train()
    assert "eval_loss is its own cross-entropy" in caplog.text


def test_several_gpus_in_one_process_are_refused(tmp_path):
    of_training = trainer(language_model(), tmp_path, encouraging_loss_func())
    of_training.args._n_gpu = 2
    batch = {
        name: torch.stack([e[name] for e in of_training.train_dataset])
        for name in ("input_ids", "labels")
    }
    with pytest.raises(ValueError, match="torchrun --nproc_per_node 2"):
        of_training.compute_loss(of_training.model, batch)


@pytest.mark.parametrize(
    ("output", "labels", "message"),
    [
        (CausalLMOutput(logits=torch.zeros(1, 3, 5)), None, "no labels"),
        (CausalLMOutput(), torch.zeros(1, 3), "CausalLMOutput without logits"),
        ((torch.zeros(1, 3, 5),), torch.zeros(1, 3), "tuple without logits"),
        (ModelOutput(logits=torch.zeros(1, 3, 5)), torch.zeros(1, 3), "shift_labels=True"),
        (CausalLMOutput(logits=torch.zeros(1, 3, 5)), torch.zeros(1, 2), r"shape \(1, 2\)"),
        (
            MoeCausalLMOutputWithPast(logits=torch.zeros(1, 3, 5), aux_loss=torch.ones(())),
            torch.zeros(1, 3),
            "output_router_logits",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_to_do(output, labels, message):
    with pytest.raises(ValueError, match=message):
        encouraging_loss_func()(output, labels)


def test_by_hand_it_takes_the_mean_and_labels_that_are_shifted_as_told():
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[1, 2, -100], [3, 4, 0]])
    output = CausalLMOutput(logits=logits)
    told = encouraging_loss_func(shift_labels=False)(output, labels)
    kept = labels != -100
    expected = literal_losses(logits[kept], labels[kept]).mean().float()
    torch.testing.assert_close(told, expected)
    torch.testing.assert_close(
        encouraging_loss_func()(output, labels),
        encouraging_loss_func(shift_labels=False)(output, shifted(labels)),
    )
    assert encouraging_loss_func()(output, torch.full((2, 3), -100), num_items_in_batch=0) == 0


def test_wrong_options_are_refused_at_once():
    with pytest.raises(ValueError, match="log_end is 2"):
        encouraging_loss_func(log_end=2)


def test_transformers_is_imported_when_asked_for_and_a_missing_one_is_named():
    program = (
        "import sys; sys.modules['fairseq'] = None; import el_fairseq; "
        "assert 'transformers' not in sys.modules; sys.modules['transformers'] = None; "
        "import el_fairseq.integrations.transformers"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: el_fairseq.integrations.transformers needs transformers")
    assert "pip install '.[transformers]'" in last
