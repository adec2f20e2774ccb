"""Made-up language pairs: one with models of a few thousand parameters that know a little of it,
and one so small that a training on it is done in a moment.
"""

import json
import random
import types

import torch
from conftest import ROOT
from fairseq import options
from fairseq_cli import preprocess as fairseq_preprocess
from fairseq_cli import train as fairseq_train
from sizes import transformer, words_of
from trainings import configuration

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


def preprocess(*words):
    """Binarize as fairseq-preprocess does. Not by the package, whose libraries some stacks lack."""
    fairseq_preprocess.main(options.get_preprocessing_parser().parse_args(words))


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


def binarize_english(folder, prefix):
    """Write the data of the text ``PREFIXtrain.en``, ... for language models: ``lm/``."""
    splits = [f"--{split}pref={folder}/{prefix}{split}.en" for split in SIZES]
    preprocess("--only-source", *splits, "--destdir", f"{folder}/lm")


def make_small(folder):
    """Write ``manifest.json``, ``text/``, ``bin/`` and ``lm/`` into an empty folder."""
    words = {word: WORDS[word] for word in ("haus", "baum", "hund", "katze", "berg")}
    write_text(folder / "text", words, SMALL_SIZES, (1, 7), in_order=True)
    splits = [f"--{split}pref={folder}/text/{split}" for split in SMALL_SIZES]
    pair = ["--source-lang", "de", "--target-lang", "en", "--joined-dictionary"]
    preprocess(*pair, *splits, "--destdir", f"{folder}/bin")
    binarize_english(folder, "text/")
    manifest = {"source": "de", "target": "en", "tokenizer": None, "subwords": None}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "pairs": SMALL_SIZES}))
    return folder


def make(folder):
    """Make a corpus, with data for language models, and models in an empty folder."""
    from el_fairseq.corpora.prepare import prepare  # stacks without the scripts lack its libraries

    def write(corpus):
        write_text(corpus / "text")
        facts = {"corpus": "tiny", "source": "de", "target": "en", "tokenizer": None}
        return {**facts, "tests": {"test": "test"}, "pairs": SIZES, "dropped": {}}

    prepare(folder, {"pieces": 90}, write)
    binarize_english(folder, "bpe/")
    made = paths(folder)
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
    for path, words in models.items():
        save = path.with_suffix("")
        fairseq_train.main(configuration(*words, *SHORT, "--save-dir", save))
        (save / "checkpoint_last.pt").rename(path)
    return made


def copy_with(checkpoint, to, change):
    """Save a copy of a checkpoint with its state changed by ``change(state)``."""
    import el_fairseq.criterion  # noqa: F401  (lets the safe loader read fairseq's options)

    state = torch.load(checkpoint, weights_only=True)
    change(state)
    torch.save(state, to)
    return to
