"""Corpora: one module a corpus, with `INFO`, `load` and `write_standin`."""
