"""Side-by-side measurements, each with its command and its committed result."""
