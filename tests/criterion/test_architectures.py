"""Every kind of model that fairseq trains: the criterion works as its cross-entropy does in it,
or says in one line before training that it does not."""

from pathlib import Path

import fairseq
import pytest
from trainings import DECODER, ENCODER_DECODER, configuration, train, with_criterion

EXAMPLES = Path(fairseq.__file__).parent / "examples"
LANGUAGE_MODEL = ["--task", "language_modeling", "--tokens-per-sample", 16]
SMALL_EMBEDDINGS = ["--encoder-embed-dim", 8, "--decoder-embed-dim", 8]
SMALL_LSTM = ["--decoder-hidden-size", 8, "--decoder-out-embed-dim", 8]
SMALL_KERNELS = [
    *("--encoder-conv-dim", 8, "--encoder-kernel-size-list", "[3]"),
    *("--decoder-conv-dim", 8, "--decoder-kernel-size-list", "[3]"),
    # fairseq leaves a bias of its other kind uninitialized.
    *("--encoder-conv-type", "lightweight", "--decoder-conv-type", "lightweight"),
]
SERVED = {
    "transformer": ENCODER_DECODER,
    "lstm": [*SMALL_EMBEDDINGS, "--encoder-hidden-size", 8, *SMALL_LSTM],
    "fconv": [
        *SMALL_EMBEDDINGS,
        *("--encoder-layers", "[(8,3)]", "--decoder-layers", "[(8,3)]"),
        *("--decoder-out-embed-dim", 8),
    ],
    "lightconv": [*ENCODER_DECODER, *SMALL_KERNELS],
    "transformer_align": [*ENCODER_DECODER, "--alignment-heads", 1, "--alignment-layer", 0],
    "transformer_pointer_generator": [
        *(*ENCODER_DECODER, "--alignment-layer", 0, "--source-position-markers", 0),
        *("--user-dir", EXAMPLES / "pointer_generator" / "pointer_generator_src"),
    ],
    "multilingual_transformer": [
        *(*ENCODER_DECODER, "--task", "multilingual_translation"),
        *("--lang-pairs", "de-en,en-de"),
    ],
    "transformer_lm": [*DECODER, *LANGUAGE_MODEL, "--sample-break-mode", "eos"],
    "lstm_lm": ["--decoder-embed-dim", 8, *SMALL_LSTM, *LANGUAGE_MODEL],
}


@pytest.mark.parametrize("arch", SERVED)
def test_with_the_bonus_off_it_trains_as_fairseqs_cross_entropy_and_with_it_otherwise(small, arch):
    data = small / ("lm" if "language_modeling" in SERVED[arch] else "bin")
    cfg = configuration(data, "--arch", arch, *SERVED[arch])
    expected = train(with_criterion(cfg, "label_smoothed_cross_entropy"), updates=3)["logs"]
    off = train(with_criterion(cfg, bonus_weight=0.0), updates=3)["logs"]
    for actual, log in zip(off, expected):
        assert actual == pytest.approx(log, rel=1e-3)
    encouraged = train(with_criterion(cfg), updates=1)["logs"][0]
    assert encouraged["nll_loss"] == pytest.approx(expected[0]["nll_loss"], rel=1e-3)
    assert encouraged["loss"] < expected[0]["loss"]
    if arch in ("transformer_align", "multilingual_transformer", "lstm"):
        with pytest.raises(SystemExit, match="--fused-projection cannot serve"):
            train(with_criterion(cfg, fused_projection=True), updates=1)


@pytest.mark.parametrize(
    ("arch", "words", "own_criterion"),
    [
        ("levenshtein_transformer", [*ENCODER_DECODER, "--task", "translation_lev"], "nat_loss"),
        (
            "roberta",
            [
                *("--task", "masked_lm", "--tokens-per-sample", 16, "--encoder-layers", 1),
                *("--encoder-embed-dim", 8, "--encoder-ffn-embed-dim", 8),
                *("--encoder-attention-heads", 2),
            ],
            "masked_lm",
        ),
    ],
)
def test_models_of_another_objective_are_refused_in_one_line(small, arch, words, own_criterion):
    data = small / "lm" if arch == "roberta" else small / "bin"
    with pytest.raises(SystemExit) as end:
        train(with_criterion(configuration(data, "--arch", arch, *words)), updates=1)
    assert "\n" not in str(end.value)
    assert f"--criterion {own_criterion}" in str(end.value)
