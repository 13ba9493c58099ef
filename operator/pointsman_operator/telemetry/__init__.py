"""How loaded the experts say they are."""
