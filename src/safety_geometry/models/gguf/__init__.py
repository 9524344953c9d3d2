"""GGUF files: their header, their tokenizer as the file means it, their weights as a plain model."""
