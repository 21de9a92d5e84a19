"""Model families: one declarative record each, and the list of them all."""
