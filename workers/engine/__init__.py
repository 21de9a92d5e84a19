"""Turns items into pixels: families, phases, batches, models."""
