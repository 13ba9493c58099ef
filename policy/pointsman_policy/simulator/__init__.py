"""Emulated experts, offline and in real time, and the workloads that they meet."""
