"""Where models are found: the shipped one, folders, and the Hugging Face hub."""
