"""The relativistic pairing game (Jolicoeur-Martineau 2019; Huang et al. 2024, "R3GAN").

The discriminator tells which image of a pair is the real one. With the logits a of a real and b of
a generated image of the same class it descends mean(softplus(−(a − b))), the generator
mean(softplus(−(b − a))): each is the non-saturating loss of the difference, and so the same op.
What a constant adds to all logits changes nothing.
"""

import torch
from torch import Tensor

from cxrgan_fast.gan.adversarial import Adversarial
from cxrgan_fast.gan.draws import DiscriminatorDraws, GeneratorDraws
from cxrgan_fast.gan.objective import Update
from cxrgan_fast.ops import generator_loss
from cxrgan_fast.settings.game import Loss


class Relativistic(Adversarial):
    """Adversarial training of which every loss is of pairs of a real and a generated image.

    In the discriminator's update the generated images have the labels of the real ones. The
    generator's update takes a batch of real images of its own, or with ``reuse_real_logits`` the
    logits that the discriminator's last update computed before it changed the discriminator.
    """

    numbers = ("d_loss", "r_t", "d_pair_accuracy", "augment_p", "g_loss", "r1", "r2")
    paired = True
    _last_real_logits: Tensor  # of the step at hand: nothing is kept from step to step

    def judge(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the discriminator's loss, r_t and the share of pairs that it orders rightly.

        Args:
            real_logits: (N,), of real images.
            fake_logits: (N,), of generated images of the same classes.
        """
        self._last_real_logits = real_logits.detach()
        difference = _differences(real_logits, fake_logits)
        with torch.no_grad():
            accuracy = (difference > 0).mean(dtype=torch.float32)
            r_t = difference.sign().mean()
        return generator_loss(difference), {"r_t": r_t, "d_pair_accuracy": accuracy}

    def generator_draws(self, shown: DiscriminatorDraws, *, noise: bool) -> GeneratorDraws:
        """See :meth:`Adversarial.generator_draws`."""
        if self.settings.reuse_real_logits:
            return self.draws.for_generator(noise=noise, labels=shown.labels)
        return self.draws.for_generator_with_real(noise=noise)

    def generator_update(self, draws: GeneratorDraws, std: Tensor | None, kind: Loss) -> Update:
        """See :meth:`Adversarial.generator_update`; there is one kind of loss."""
        with self.autocast():
            fake = self.run["generator"](draws.latents, draws.labels)
        if draws.rows is None:
            real_logits = self._last_real_logits
            images = self.inputs.generated(fake, draws.augment, draws.noise, std)
        else:
            both = self.inputs.both(draws.rows, draws.mirror, fake, draws.augment, draws.noise, std)
            real, images = both.split(len(fake))
            # Apart from the generated ones, since nothing is differentiated by real images.
            with torch.no_grad(), self.autocast():
                real_logits = self.run["discriminator"](real, draws.labels)
        with self.autocast():
            fake_logits = self.run["discriminator"](images, draws.labels)
        loss = generator_loss(_differences(fake_logits, real_logits))
        return Update(self.players[0], loss, {"g_loss": loss.detach()})


def _differences(logits: Tensor, others: Tensor) -> Tensor:
    """Subtract logits pair by pair, in float32: 16 bits would round what is alike to nothing."""
    return logits.float() - others.float()
