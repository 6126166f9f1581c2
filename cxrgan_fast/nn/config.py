"""What a pair of networks looks like: every choice that shapes the generator or discriminator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn.family import FAMILIES, FamilySettings
from cxrgan_fast.setting import Needs, Setting, Settings


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """The architecture of a generator and its discriminator.

    Raises:
        UserError: a value, or a pair of values, that no network can be built from; the field is
            named.
    """

    family: Annotated[
        Literal["resnet", "dcgan", "r3"],
        Setting(elsewhere="model arch architecture gan backbone network"),
    ] = "resnet"
    """Architecture: residual blocks (resnet, Miyato & Koyama 2018), plain layers (dcgan, Radford et
    al. 2016) or residual blocks without normalization (r3, Huang et al. 2024)."""
    resolution: Annotated[
        int,
        Setting(
            choices=(32, 64, 128, 256, 512),
            elsewhere="image_size img_size imsize imagesize size crop_size load_size",
        ),
    ] = 64
    """Height and width of the images, in pixels."""
    image_channels: Annotated[
        int, Setting(choices=(1, 3), elsewhere="channels nc img_channels in_channels input_nc")
    ] = 1
    """Channels of the images: 1 (grayscale) or 3 (RGB)."""
    latent_size: Annotated[
        int,
        Setting(
            least=1,
            most=1 << 40,
            elsewhere="z_dim zdim nz dim_z latent_dim noise_dim latent_channels z_size",
        ),
    ] = 128
    """Length of the latent vector."""
    base_channels: Annotated[
        int,
        Setting(
            least=8,
            most=4096,
            multiple_of=8,
            elsewhere="ngf ndf nf num_filters n_filters hidden_size hidden_dim channels_base "
            "channel_multiplier ch g_ch d_ch fmaps width",
        ),
    ] = 32
    """Hidden layer size: channels of the layers at 64 pixels, doubled each time the size halves, up
    to 512."""
    extra_layers: Annotated[int, Setting(least=0, most=128)] = 0
    """Number of extra layers (resnet: residual blocks) at 8 pixels in each network."""
    activation: Literal["leaky_relu", "relu"] = "leaky_relu"
    """Activation function of both networks."""
    negative_slope: Annotated[
        float, Setting(least=0, most=1, needs=Needs("activation", among=("leaky_relu",)))
    ] = 0.2
    """Slope of leaky_relu below zero."""
    output: Literal["tanh", "sigmoid"] = "tanh"
    """Last activation of the generator, which puts its images in [-1, 1] (tanh) or [0, 1]
    (sigmoid)."""
    spectral_norm: Annotated[
        bool, Setting(needs=Needs("family", but="r3"), elsewhere="sn use_sn spectral")
    ] = False
    """Divide every weight of the discriminator by its largest singular value (Miyato et al.
    2018)."""
    conditioning: Annotated[
        Literal["projection", "concat"], Setting(elsewhere="conditional cond embed class_cond")
    ] = "projection"
    """How the networks see the class: by conditional batch norm and projection (projection), or by
    an embedding joined to the input (concat). The generator of r3 always has the latter."""
    generator_norm: Annotated[
        Literal["batch", "none"], Setting(needs=Needs("family", but="r3"))
    ] = "batch"
    """Normalization of the generator; none needs --conditioning concat, unless there is only one
    class."""
    minibatch_std: Annotated[
        int, Setting(least=0, most=1 << 16, needs=Needs("family", but="r3"), elsewhere="mbstd")
    ] = 0
    """Images whose standard deviation the discriminator sees, at 8 pixels, as a channel more; 0
    means none (Karras et al. 2018)."""
    latent_chunks: Annotated[bool, Setting(needs=Needs("family", but="r3"), elsewhere="hier")] = (
        False
    )
    """Give each block's batch norm a part of the latent beside the class (Brock et al. 2019)."""
    normalize_latents: bool = False
    """Scale each latent vector to mean square 1 (Karras et al. 2018)."""
    scale_residuals: Annotated[bool, Setting(needs=Needs("family", among=("resnet",)))] = False
    """Multiply each residual block's output in the discriminator by the square root of 1/2 (Karras
    et al. 2020)."""
    own: FamilySettings = field(default_factory=FamilySettings)
    """Settings that only the family has."""

    def __post_init__(self) -> None:
        super().__post_init__()  # so that there is such a family
        wanted = FAMILIES[self.family].settings
        if type(self.own) is not wanted:  # another family's, which mean nothing to this one
            object.__setattr__(self, "own", wanted())

    def validate(self, n_classes: int) -> None:
        """Raise ``UserError`` if networks for that many classes cannot be built."""
        if n_classes < 1:
            raise UserError(f"n_classes must be at least 1, got {n_classes}")
        if n_classes > 1 and self.generator_norm == "none" and self.conditioning == "projection":
            raise UserError(
                f"generator_norm='none' leaves conditioning='projection' no batch norm to tell "
                f"{n_classes} classes apart with; use conditioning='concat'"
            )

        if self.generator_norm == "none" and self.latent_chunks:
            raise UserError(
                "generator_norm='none' leaves latent_chunks no batch norm to act on; leave one out"
            )

    @property
    def slope(self) -> float:
        """Return the activation's slope below zero: 0 for relu."""
        return 0.0 if self.activation == "relu" else self.negative_slope

    @property
    def gain(self) -> float:
        """Return the gain that keeps the variance through activation and layer (He et al. 2015)."""
        return math.sqrt(2 / (1 + self.slope**2))

    def channels_at(self, size: int) -> int:
        """Return the channels of the layers at ``size`` × ``size`` pixels.

        Halving the size doubles the channels, so that each resolution costs the same, from half of
        ``base_channels`` (128 pixels and more) to eight times as many or 512 (8 pixels and fewer).
        """
        wanted = max(self.base_channels * 64 // size, self.base_channels // 2)
        return min(wanted, 8 * self.base_channels, max(512, self.base_channels))

    @property
    def image_range(self) -> tuple[float, float]:
        """Return the least and greatest pixel value of the generator's images."""
        return (-1.0, 1.0) if self.output == "tanh" else (0.0, 1.0)
