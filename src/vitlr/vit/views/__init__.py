"""Looking at a network: attention rollout, account of parameters, FLOP and bytes."""
