"""How threads beside the training share the processor's cores with it."""

import torch


def use_one_core() -> None:
    """Have the calling thread's PyTorch ops run on it alone.

    By default a thread that runs its first large op gets OpenMP workers of its own, one less than
    there are cores, and keeps them. With more threads than cores in all, libgomp's no longer wait
    busily for each other but sleep: from then on every op of the training thread wakes its own.

    PyTorch has the threads that are started after this begin the same way; those that have run an
    op before are not changed.
    """
    torch.set_num_threads(1)
