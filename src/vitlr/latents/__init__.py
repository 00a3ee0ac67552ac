"""From images to latents: the network, the encoder, the cache on disk."""
