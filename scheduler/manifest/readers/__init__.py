"""One reader per format. Each turns a file into `Row`s and notes what it cannot read."""
