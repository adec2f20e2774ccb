"""What a model does to tokens: one module a question, ``python -m el_fairseq.analyze`` asks all."""
