"""Version 1 of the policy API; generated from policy.proto."""
