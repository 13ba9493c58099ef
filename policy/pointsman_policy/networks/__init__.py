"""Torch networks; nothing that serves requests imports them."""
