"""ViT-LR: latent replay for vision transformers."""
