"""Version 1 of the routing API; generated from routing.proto."""
