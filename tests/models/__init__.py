"""Builders of model folders with tiny random weights, one for every kind the engine renders.

Each takes the folder to fill and returns it. Nothing is fetched: configs, weights and
vocabularies are made here, the same ones every time.
"""
