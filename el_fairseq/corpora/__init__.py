"""Corpora, one module each: from an archive to what fairseq reads."""
