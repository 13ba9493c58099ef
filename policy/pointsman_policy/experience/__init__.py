"""What happened: outcomes of requests, kept for learning."""
