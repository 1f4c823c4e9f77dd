"""What the machine says about power (sensors), and who uses it (workload)."""
