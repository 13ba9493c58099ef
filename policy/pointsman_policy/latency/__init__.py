"""What a request will cost on an expert, in time and in harm to others."""
