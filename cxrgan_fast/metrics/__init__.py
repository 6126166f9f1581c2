"""Whether images are good: features, and metrics on them."""

from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features, extract_features
from cxrgan_fast.metrics.metric import Images, Metric, Sets, all_metrics, register
from cxrgan_fast.metrics.registry import extractor_names, load_extractor

__all__ = [
    "Estimate",
    "FeatureExtractor",
    "Features",
    "Images",
    "Metric",
    "Resamples",
    "Sets",
    "all_metrics",
    "extract_features",
    "extractor_names",
    "load_extractor",
    "register",
]
