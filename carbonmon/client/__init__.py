"""What training code imports, and the socket's protocol: the standard library only."""
