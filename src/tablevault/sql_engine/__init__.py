"""SQL over frame files: which statements pass, and the engine that runs them. Knows nothing of vaults."""
