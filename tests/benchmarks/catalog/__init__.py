"""How fast the catalog is searched: realistic rows, thirty queries, and plain SQL beside them."""
