"""The catalog against the store: what is missing, damaged or left over, and mending it."""
