"""Claims work, renders it, stores the pictures and records them."""
