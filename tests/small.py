"""A corpus so small that a training on it is done in a moment, and a model as small."""

import random

from sizes import transformer, words_of

from el_fairseq.corpora.binarize import preprocess

WORDS = {"haus": "house", "baum": "tree", "hund": "dog", "katze": "cat", "berg": "hill"}
SIZES = {"train": 80, "valid": 8, "test": 9}
MODEL = ["--arch", "transformer", "--share-all-embeddings", *words_of(transformer(8))]


def make(folder):
    """Write ``manifest.json``, ``text/``, ``bin/`` and ``lm/`` (English) into an empty folder."""
    draw = random.Random(1)
    (folder / "text").mkdir()
    splits = []
    for split, size in SIZES.items():
        sentences = [draw.choices(list(WORDS), k=draw.randint(1, 7)) for _ in range(size)]
        pairs = {"de": sentences, "en": [[WORDS[word] for word in words] for words in sentences]}
        for side, texts in pairs.items():
            lines = "".join(" ".join(words) + "\n" for words in texts)
            (folder / "text" / f"{split}.{side}").write_text(lines)
        splits += [f"--{split}pref={folder}/text/{split}"]
    (folder / "manifest.json").write_text(
        '{"source": "de", "target": "en", "tokenizer": null, "subwords": "sentencepiece"}'
    )
    pair = ["--source-lang", "de", "--target-lang", "en", "--destdir", f"{folder}/bin"]
    preprocess(*pair, *splits, "--joined-dictionary")
    english = [f"{split}.en" for split in splits]
    preprocess("--only-source", *english, "--destdir", f"{folder}/lm")
    return folder
