"""How a model predicts tokens; ``python -m el_fairseq.analysis`` runs every module."""
