"""What exporters share that send results away: their pace, a thread for the network, a run's own families."""
