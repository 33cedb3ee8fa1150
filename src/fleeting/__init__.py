"""Facial micro-expression recognition: one pipeline, five published systems, an evaluation that cannot peek."""

__version__ = "0.1.0.dev0"
