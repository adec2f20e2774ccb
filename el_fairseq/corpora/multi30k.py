"""Multi30k: 29,000 captions of images in German, French and English, with four test sets.

The test sets (flickr2016, flickr2017, coco2017, flickr2018; 3,532 pairs) are also scored together,
as one set, all. Text is made as the data's own keepers do (scripts/task1-tokenize.sh of
https://github.com/multi30k/dataset): lowercased, punctuation normalized, tokenized, in this order;
nothing is filtered. 10,000 joint BPE merges, one dictionary.
"""

from pathlib import Path

from ..common.cli import run
from . import pairs
from .prepare import DATA, parser_of, prepare, say
from .sources import check, fetch

FORM = {"tokenizer": "moses", "lowercased": True, "normalized": True}
COMMIT = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"
URL = f"https://raw.githubusercontent.com/multi30k/dataset/{COMMIT}/data/task1/raw"
TESTS = {"flickr2016": "test", "flickr2017": "test1", "coco2017": "test2", "flickr2018": "test3"}
# The published file of each subset, without its language.
FILES = {
    **{"train": "train", "valid": "val", "test": "test_2016_flickr"},
    **{"test1": "test_2017_flickr", "test2": "test_2017_mscoco", "test3": "test_2018_flickr"},
}
SHA256 = {
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    "test_2017_flickr.de.gz": "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee",
    "test_2017_flickr.en.gz": "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074",
    "test_2017_flickr.fr.gz": "3ba671ceb2299f3304ffafefea7a833d08632fbaf0ba18546f8a2ec2391af496",
    "test_2017_mscoco.de.gz": "799e4854c25d601cb6cb6be29eabe5667734c61ace2f495e03e429031a0bc338",
    "test_2017_mscoco.en.gz": "aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58",
    "test_2017_mscoco.fr.gz": "754f3072ba9f124569ba5258b32730fc1d214bbf8e0c6dfb2b74401676220db0",
    "test_2018_flickr.de.gz": "ddd0130c7d97482dc5197a02141dae8dd79f20f03586c480d675c09a32daf608",
    "test_2018_flickr.en.gz": "ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d",
    "test_2018_flickr.fr.gz": "fb2b83fcceb937a4f7e3e93c1c51c22aba92f1e342391e6b5ba392b16a920501",
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
}


def main():
    parser = parser_of("multi30k", __doc__, "multi30k-DIRECTION")
    directions = ("de-en", "fr-en", "en-de", "en-fr")
    parser.add_argument("direction", choices=directions, help="source and target language")
    there = "a folder of the published .gz files, instead of downloading"
    parser.add_argument("--from", dest="folder", type=Path, metavar="DIR", help=there)
    options = parser.parse_args()
    languages = options.direction.split("-")
    out = options.out or DATA / f"multi30k-{options.direction}"
    source = options.folder or out.parent / "archives" / "multi30k"

    def write_text(folder):
        files = {
            subset: [source / f"{name}.{language}.gz" for language in languages]
            for subset, name in FILES.items()
        }
        for path in (path for both in files.values() for path in both):
            wanted = f"sha256:{SHA256[path.name]}"
            if not options.folder:
                fetch(f"{URL}/{path.name}", path, wanted, "(--from DIR)")
            check(path, wanted, f"give the file of {URL}, or leave --from out")
        say("Normalizing and tokenizing.")
        placed = (
            (subset, pair)
            for subset, both in files.items()
            for pair in pairs.read_pairs(both, languages=languages, form=FORM)
        )
        written = pairs.write(folder, languages, FILES, placed)
        # What others score against. Hypotheses differ from it in a few quotation marks, because
        # the punctuation that models read is normalized.
        targets = {subset: both[1] for subset, both in files.items()}
        pairs.write_references(folder, languages[1], targets, lowercased=True)
        return {
            "corpus": f"Multi30k {options.direction} (captions of images)",
            "archive": {"repository": "https://github.com/multi30k/dataset", "commit": COMMIT},
            **FORM,
            "tests": TESTS,
            "all": True,
            # The data set's page gives the captions for non-commercial research, without a licence.
            "redistributable": False,
            **written,
        }

    prepare(out, {"direction": options.direction, "merges": 10_000}, write_text)


if __name__ == "__main__":
    run(main)
