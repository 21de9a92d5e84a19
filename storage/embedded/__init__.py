"""What a picture's file says of itself: written by workers, read by anyone."""
