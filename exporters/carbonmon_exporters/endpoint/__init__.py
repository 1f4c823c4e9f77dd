"""The HTTP server of /metrics: deadlines and limits, TLS, client certificates, passwords."""
