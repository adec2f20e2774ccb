"""Sizes of Transformers that train in a moment, as names with values and as fairseq's options."""


def transformer(width, sides=("encoder", "decoder")):
    """One layer with two heads, as wide as said."""
    sizes = {"layers": 1, "embed_dim": width, "ffn_embed_dim": width, "attention_heads": 2}
    return {f"{side}_{name}": value for side in sides for name, value in sizes.items()}


def words_of(options):
    """Options by name as words of a command line."""
    return [word for k, v in options.items() for word in (f"--{k.replace('_', '-')}", str(v))]
