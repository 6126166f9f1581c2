"""Settings of the game and of its optimizers: groups of `TrainConfig`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cxrgan_fast.ops.adversarial_loss import SMOOTHED_KINDS, LossKind
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.setting import Needs, Setting, Settings

Loss = Literal[LossKind, "relativistic"]
"""The losses of single logits, which are ops, and that of pairs of them."""


@dataclass(frozen=True)
class ObjectiveConfig(Settings):
    """The adversarial game: Goodfellow et al. 2014, Algorithm 1, and what is added to it."""

    loss: Annotated[Loss, Setting(elsewhere="loss_type gan_mode gan_loss adv_loss criterion")] = (
        "non_saturating"
    )
    """Adversarial loss; relativistic compares real and generated images of a class in pairs
    (Jolicoeur-Martineau 2019)."""
    reuse_real_logits: Annotated[bool, Setting(needs=Needs("loss", among=("relativistic",)))] = (
        False
    )
    """Compare the generator's images with the real images of the discriminator's last update, by
    their logits before it, instead of showing the discriminator a batch of further real images."""
    discriminator_steps: Annotated[
        int,
        Setting(
            least=1,
            most=1000,
            elsewhere="d_iters n_critic ncritic n_dis critic_iters d_steps num_d_steps n_disc",
        ),
    ] = 1
    """Discriminator updates for each generator update (k of Algorithm 1)."""
    early_steps: Annotated[int, Setting(least=0, needs=Needs("loss", among=("minimax",)))] = 0
    """Number of first steps in which the generator maximizes log D(G(z)) instead."""
    label_smoothing: Annotated[
        float,
        Setting(
            least=0,
            below=1,
            needs=Needs("loss", among=SMOOTHED_KINDS),
            elsewhere="smoothing smooth real_label",
        ),
    ] = 0.0
    """One-sided label smoothing: the target for real images is 1 minus this value."""
    noise_std: Annotated[float | Schedule, Setting(least=0)] = 0.0
    """Standard deviation of the Gaussian noise on all images that the discriminator sees, whose
    pixels span a range of 2."""
    noise_decay_steps: Annotated[int, Setting(least=0, needs=Needs("noise_std"))] = 0
    """Steps over which the noise falls linearly to zero; 0 leaves it as --noise-std says, which can
    be a schedule itself."""
    r1_gamma: Annotated[
        Literal["auto"] | float | Schedule,
        Setting(
            least=0, log=True, elsewhere="gamma r1 gp_weight lambda_gp gradient_penalty r1_weight"
        ),
    ] = 1.0
    """Weight γ of the R1 penalty γ/2·E‖∇D‖² on real images (Mescheder et al. 2018); 0 is off,
    auto is 0.0002·R²/N for images of R pixels a side in batches of N."""
    r2_gamma: Annotated[
        Literal["auto"] | float | Schedule,
        Setting(least=0, log=True, elsewhere="r2 r2_weight lambda_r2"),
    ] = 0.0
    """Weight γ of the R2 penalty, which is R1's on generated images; 0 is off, auto is
    0.0002·R²/N for images of R pixels a side in batches of N, as for --r1-gamma."""
    r1_interval: Annotated[
        int,
        Setting(
            least=1,
            needs=Needs("r1_gamma", or_setting="r2_gamma"),
            elsewhere="d_reg_every reg_interval d_reg_interval r2_interval",
        ),
    ] = 16
    """Steps between two computations of R1 and R2, whose weights are multiplied by this number."""

    @property
    def real_batches(self) -> int:
        """Return how many batches of real images a step takes."""
        own = self.loss == "relativistic" and not self.reuse_real_logits
        return self.discriminator_steps + own

    @property
    def penalized(self) -> bool:
        """Tell whether some steps have a penalty on the discriminator's gradient."""
        return bool(self.r1_gamma) or bool(self.r2_gamma)


@dataclass(frozen=True)
class OptimizationConfig(Settings):
    """How the optimizers update the weights."""

    optimizer: Annotated[
        Literal["adam", "adamw", "sgd", "rmsprop"], Setting(elsewhere="optim opt")
    ] = "adam"
    """Optimizer of both networks."""
    g_lr: Annotated[
        float | Schedule,
        Setting(
            least=0,
            log=True,
            answer="--g-lr and --d-lr, of the generator and the discriminator",
            elsewhere="lr learning_rate lrate lr_g lr_d glr dlr g_learning_rate d_learning_rate "
            "learning_rate_g learning_rate_d lr_generator lr_discriminator generator_lr "
            "discriminator_lr",
        ),
    ] = 5e-4
    """Learning rate of the generator."""
    d_lr: Annotated[float | Schedule, Setting(least=0, log=True)] = 5e-4
    """Learning rate of the discriminator."""
    beta1: Annotated[
        float,
        Setting(
            least=0,
            below=1,
            needs=Needs("optimizer", among=("adam", "adamw")),
            elsewhere="b1 beta_1 adam_beta1 adam_b1 betas",
        ),
    ] = 0.0
    """Decay rate of Adam's first moment."""
    beta2: Annotated[
        float | Schedule,
        Setting(
            least=0,
            below=1,
            needs=Needs("optimizer", but="sgd"),
            elsewhere="b2 beta_2 adam_beta2 adam_b2",
        ),
    ] = 0.99
    """Decay rate of Adam's second moment, or smoothing constant of RMSprop, which can be no
    schedule."""
    momentum: Annotated[
        float, Setting(least=0, below=1, needs=Needs("optimizer", among=("sgd",)))
    ] = 0.9
    """Momentum of SGD."""
    l2: Annotated[
        float,
        Setting(least=0, answer="--l2, which adamw decouples", elsewhere="weight_decay wd decay"),
    ] = 0.0
    """Weight decay: an L2 penalty, or decoupled from the gradient with --optimizer adamw."""
    ema_half_life: Annotated[
        float | Schedule,
        Setting(
            least=0,
            log=True,
            answer="--ema-half-life, in images shown",
            elsewhere="ema ema_decay ema_beta ema_kimg ema_rate",
        ),
    ] = 10_000.0
    """Half-life of the moving average of the generator's weights, in images shown."""
    ema_ramp: Annotated[float, Setting(least=0, needs=Needs("ema_half_life"))] = 0.05
    """Warm-up: the half-life is at most this share of the images shown so far; 0 turns it off."""
    power_ema_every: Annotated[int, Setting(least=0)] = 0
    """Steps between two files of power-function averages of the generator's weights (Karras et al.
    2024), from which generate --ema makes an average of any width; 0 keeps none."""
