"""How /metrics is reached: a server with deadlines and limits, TLS, certificates, passwords."""
