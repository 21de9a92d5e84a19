"""The starter model: a small text-to-image model, its training code and its checker."""
