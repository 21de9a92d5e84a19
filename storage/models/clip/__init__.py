"""The vocabulary of CLIP's tokenizer, as OpenAI published it with CLIP (MIT licence).

``bpe_simple_vocab_16e6.txt.gz`` holds the merges of its byte pair encoding. Checkpoints that are
single files do not bring it.
"""
