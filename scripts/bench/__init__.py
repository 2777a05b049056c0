"""What scripts/benchmark.py is made of: workloads, our flows and the peers' for them, and how they are timed."""
