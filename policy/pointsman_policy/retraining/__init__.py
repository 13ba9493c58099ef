"""From outcomes to a candidate that has passed the gate, or to the reason why there is none."""
