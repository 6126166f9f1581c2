"""Images of a configuration: those that it names, made as it says."""

from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.images import load_images


def test_they_are_those_of_the_settings_wherever_they_lie():
    settings = {"data": "no such folder", "phantom_images": 12, "resolution": 32}
    config = override(TrainConfig(), {**settings, "classes": ("bacterial",)})
    dataset = load_images(config, "phantom")
    assert dataset.class_names == ("bacterial",)
    assert dataset.images.shape == (12, 1, 32, 32)
    here = load_images(override(config, {"data": "phantom"}))
    assert here.fingerprint == dataset.fingerprint
