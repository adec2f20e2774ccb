"""Corpora, one module each: from an archive to parallel text."""
