"""What outlives a process: the shape of things (`contract`) and where they are kept."""
