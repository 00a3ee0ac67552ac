"""Everything that can change a bit of a latent: the cut, blocks, products, precision."""
