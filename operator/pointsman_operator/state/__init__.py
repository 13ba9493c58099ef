"""What the router knows between telemetry samples, assembled into a RoutingState."""
