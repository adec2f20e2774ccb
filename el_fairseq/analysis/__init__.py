"""What a model does to tokens; ``python -m el_fairseq.analysis`` asks every module's question."""
