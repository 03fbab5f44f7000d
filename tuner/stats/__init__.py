"""Statistics of latencies: request columns, histograms, intervals, steady state."""
