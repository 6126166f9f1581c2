"""What a discriminator sees: images, augmented, with noise."""
