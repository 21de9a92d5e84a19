"""Pure types that scheduler, workers and adapters share. Nothing here does I/O."""
