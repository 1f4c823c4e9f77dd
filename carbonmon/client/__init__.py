"""What training code imports, and the protocol of the monitor's socket; standard library only."""
