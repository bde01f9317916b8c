"""Tests of the readers; `gguf_writer` and `shapes` are for every test that needs a model file."""
