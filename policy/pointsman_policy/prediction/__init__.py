"""Quality and length of an answer, predicted before it exists."""
