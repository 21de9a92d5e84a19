"""Taking pictures out of the catalog: what to take, in which form, and to where."""
