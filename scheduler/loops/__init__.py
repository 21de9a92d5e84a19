"""What must happen again and again while jobs are open. One module each."""
