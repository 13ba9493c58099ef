"""Emulated LLM servers in real time: OpenAI's API and vLLM's metrics in front of the simulator's engine."""
