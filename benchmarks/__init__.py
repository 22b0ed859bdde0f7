"""What Perdure costs, measured beside what its peers cost. Run it with `python -m benchmarks`."""
