"""Made-up language pairs: one with models of a few thousand parameters that know a little of it,
and one so small that a training on it is done in a moment.
"""

import json
import random
import types

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
SMALL_SIZES = {"train": 80, "valid": 8, "test": 9}
SMALL_MODEL = ["--arch", "transformer", "--share-all-embeddings", *words_of(transformer(8))]
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


def write_text(folder, words=WORDS, sizes=SIZES, lengths=(2, 9), in_order=False):
    """Sentences of words drawn at random; translations word by word, reversed or in order.

    Reversed, the last of ``words`` are drawn the most.
    """
    draw, chances = random.Random(1), None if in_order else range(1, len(words) + 1)
    folder.mkdir()
    for split, size in sizes.items():
        sentences = [
            draw.choices(list(words), chances, k=draw.randint(*lengths)) for _ in range(size)
        ]
        translations = [[words[word] for word in sentence] for sentence in sentences]
        if not in_order:
            translations = [sentence[::-1] for sentence in translations]
        for language, text in (("de", sentences), ("en", translations)):
            lines = "".join(" ".join(sentence) + "\n" for sentence in text)
            (folder / f"{split}.{language}").write_text(lines)


def binarize(folder, prefix, sizes=SIZES):
    """Write the manifest, as far as scoring and reporting read it, and the data of the text
    ``PREFIXtrain.de``, ...: ``bin/``, and ``lm/`` of the English side."""
    manifest = {"source": "de", "target": "en", "tokenizer": None, "subwords": "sentencepiece"}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "pairs": sizes}))
    splits = [f"--{split}pref={folder}/{prefix}{split}" for split in sizes]
    pair = ["--source-lang", "de", "--target-lang", "en", "--joined-dictionary"]
    preprocess(*pair, *splits, "--destdir", f"{folder}/bin")
    english = [f"{split}.en" for split in splits]
    preprocess("--only-source", *english, "--destdir", f"{folder}/lm")


def make_small(folder):
    """Write ``manifest.json``, ``text/``, ``bin/`` and ``lm/`` into an empty folder."""
    words = {word: WORDS[word] for word in ("haus", "baum", "hund", "katze", "berg")}
    write_text(folder / "text", words, SMALL_SIZES, (1, 7), in_order=True)
    binarize(folder, "text/", SMALL_SIZES)
    return folder


def train(to, options):
    """Train as fairseq-train does, in this process, and put the checkpoint at ``to``."""
    folder = to.with_suffix("")
    fairseq_train.main(configuration(*options, *SHORT, "--save-dir", folder))
    (folder / "checkpoint_last.pt").rename(to)


def make(folder):
    """Make text, subwords, binary data and models below an empty folder."""
    import sentencepiece  # which stacks without the scripts lack

    made = paths(folder)
    write_text(made.text)
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
        pieces = processor.encode(path.read_text().splitlines(), out_type=str)
        text = "".join(" ".join(line) + "\n" for line in pieces)
        (made.folder / f"pieces-{path.name}").write_text(text)
    binarize(folder, "pieces-")
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
