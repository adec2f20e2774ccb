"""A made-up language pair and models of a few thousand parameters that know a little of it."""

import json
import random
import types

import sentencepiece
import torch
from conftest import ROOT
from fairseq_cli import train as fairseq_train
from sizes import transformer, words_of
from trainings import configuration

from el_fairseq.corpora.binarize import preprocess

WORDS = {
    **{"haus": "house", "baum": "tree", "hund": "dog", "katze": "cat", "wasser": "water"},
    **{"berg": "hill", "wiese": "meadow", "stadt": "town", "garten": "garden", "schule": "school"},
    **{"licht": "light", "sonne": "sun", "mond": "moon", "stern": "star"},
}
SIZES = {"train": 300, "valid": 30, "test": 43}
TINY = [
    *("--arch", "transformer", *words_of(transformer(16))),
    *("--max-source-positions", "60", "--max-target-positions", "60"),
]
SHORT = [
    *("--max-tokens", "2000", "--max-epoch", "12", "--save-interval", "12"),
    *("--no-epoch-checkpoints", "--disable-validation"),
]


def paths(folder):
    """Where everything is: texts, binary data, subwords, and checkpoints by name."""
    names = {"text": "text", "bin": "bin", "lm": "lm", "subwords": "bpe/sentencepiece.model"}
    models = {"ce": "ce.pt", "el": "el.pt", "language_model": "lm.pt"}
    places = {name: folder / path for name, path in {**names, **models}.items()}
    return types.SimpleNamespace(folder=folder, **places)


def write_text(folder):
    """Sentences of words drawn with unequal chances; translations word by word, reversed."""
    draw = random.Random(1)
    folder.mkdir()
    for split, size in SIZES.items():
        sentences = [
            draw.choices(list(WORDS), range(1, len(WORDS) + 1), k=draw.randint(2, 9))
            for _ in range(size)
        ]
        (folder / f"{split}.de").write_text("".join(" ".join(s) + "\n" for s in sentences))
        (folder / f"{split}.en").write_text(
            "".join(" ".join(WORDS[w] for w in reversed(s)) + "\n" for s in sentences)
        )


def write_manifest(folder):
    """The corpus's manifest, as far as scoring and reporting read it."""
    manifest = {"source": "de", "target": "en", "tokenizer": None, "subwords": "sentencepiece"}
    manifest["pairs"] = SIZES
    (folder / "manifest.json").write_text(json.dumps(manifest))


def train(to, options):
    """Train as fairseq-train does, in this process, and put the checkpoint at ``to``."""
    folder = to.with_suffix("")
    fairseq_train.main(configuration(*options, *SHORT, "--save-dir", folder))
    (folder / "checkpoint_last.pt").rename(to)


def make(folder):
    """Make text, subwords, binary data and models below an empty folder."""
    made = paths(folder)
    write_text(made.text)
    write_manifest(made.folder)
    made.subwords.parent.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=[made.text / "train.de", made.text / "train.en"],
        model_prefix=str(made.subwords.with_suffix("")),
        model_type="bpe",
        vocab_size=90,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(made.subwords))
    for path in list(made.text.iterdir()):
        pieces = [
            " ".join(p) for p in processor.encode(path.read_text().splitlines(), out_type=str)
        ]
        (made.folder / f"pieces-{path.name}").write_text("".join(f"{line}\n" for line in pieces))
    splits = [f"--{split}pref={folder}/pieces-{split}" for split in SIZES]
    pair = ["--source-lang", "de", "--target-lang", "en", "--joined-dictionary"]
    preprocess(*pair, *splits, "--destdir", str(made.bin))
    english = [f"{split}.en" for split in splits]
    preprocess("--only-source", *english, "--destdir", str(made.lm))
    models = {
        made.ce: [
            *(made.bin, *TINY, "--share-all-embeddings"),
            *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
        ],
        made.el: [
            *(made.bin, *TINY, "--user-dir", ROOT / "el_fairseq"),
            *("--criterion", "encouraging_loss", "--log-end", "0.75"),
        ],
        made.language_model: [
            *(made.lm, "--task", "language_modeling", "--arch", "transformer_lm"),
            *("--sample-break-mode", "none", "--tokens-per-sample", "30"),
            *words_of(transformer(16, ["decoder"])),
        ],
    }
    for to, options in models.items():
        train(to, options)
    return made


def copy_with(checkpoint, to, change):
    """Save a copy of a checkpoint with its state changed by ``change(state)``."""
    import el_fairseq.criterion  # noqa: F401  (lets the safe loader read fairseq's options)

    state = torch.load(checkpoint, weights_only=True)
    change(state)
    torch.save(state, to)
    return to
