"""How a candidate comes into service step by step, and how it is withdrawn."""
