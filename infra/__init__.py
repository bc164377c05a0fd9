"""What a person or CI runs: the local stack, the demo, the benchmarks."""
