"""Fast class-conditional GANs for chest X-rays."""

__version__ = "0.1.0"
