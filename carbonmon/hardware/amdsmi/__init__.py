"""AMD's management library of the installed ROCm: its package, its cards, and what its answers mean."""
