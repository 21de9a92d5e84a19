"""The engine against the bare diffusers pipeline."""
