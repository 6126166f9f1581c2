"""Which sets are compared, while a GAN trains and after it, and what is shown of it."""
