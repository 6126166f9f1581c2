"""Whether images are good: features, and metrics on them."""

from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features, extract_features
from cxrgan_fast.metrics.registry import extractor_names, load_extractor

__all__ = [
    "Estimate",
    "FeatureExtractor",
    "Features",
    "Resamples",
    "extract_features",
    "extractor_names",
    "load_extractor",
]
