"""A RouterPolicy's digital twin: the simulator with experts calibrated to outcomes and with the traffic observed."""
