"""Shared helpers: files, command lines."""
