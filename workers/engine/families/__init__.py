"""One adapter per model family: how it encodes, denoises and decodes."""
