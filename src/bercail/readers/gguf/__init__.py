"""GGUF files: header, checks and description."""
