"""What people call settings elsewhere, and what they are called here."""

from collections.abc import Collection, Sequence

from cxrgan_fast.errors import UserError, did_you_mean

# By what is to be said; names with underscores, as in files. Flags have strokes instead.
_CALLED = {
    "--g-lr and --d-lr, of the generator and the discriminator":
        "lr learning_rate lrate lr_g lr_d glr dlr g_learning_rate d_learning_rate learning_rate_g "
        "learning_rate_d lr_generator lr_discriminator generator_lr discriminator_lr",
    "--l2, which adamw decouples": "weight_decay wd decay",
    "--beta1": "b1 beta_1 adam_beta1 adam_b1 betas",
    "--beta2": "b2 beta_2 adam_beta2 adam_b2",
    "--optimizer": "optim opt",
    "--steps, the generator's updates; N images take N / --batch-size of them in an epoch":
        "epoch n_epoch nepochs epochs num_epochs n_epochs max_epochs nepoch niter num_iters "
        "iterations max_steps "
        "num_steps total_steps train_steps n_iter kimg total_kimg",
    "--max-minutes": "max_time timeout time_limit max_hours",
    "--base-channels": "ngf ndf nf num_filters n_filters hidden_size hidden_dim channels_base "
        "channel_multiplier ch g_ch d_ch fmaps width",
    "--latent-size": "z_dim zdim nz dim_z latent_dim noise_dim latent_channels z_size",
    "--batch-size": "bs batch train_batch_size",
    "--resolution": "image_size img_size imsize imagesize size crop_size load_size",
    "--image-channels": "channels nc img_channels in_channels input_nc",
    "--precision": "amp mixed_precision fp16 bf16 half use_amp dtype",
    "--executor": "compile torch_compile cuda_graph use_graphs",
    "--discriminator-steps": "d_iters n_critic ncritic n_dis critic_iters d_steps num_d_steps "
        "n_disc",
    "--r1-gamma": "gamma r1 gp_weight lambda_gp gradient_penalty r1_weight",
    "--r1-interval": "d_reg_every reg_interval d_reg_interval",
    "--ema-half-life, in images shown": "ema ema_decay ema_beta ema_kimg ema_rate",
    "--out": "output_folder out_folder outdir out_dir output_dir save_dir results_dir log_dir "
        "logdir workdir",
    "--name": "run_name exp_name experiment desc tag",
    "--data": "input path csv train_data dataroot data_dir data_root datadir dataset "
        "dataset_path data_path root train_dir",
    "--threads, of a CPU's steps; images are read once, no workers load them":
        "num_workers workers n_workers nworkers",
    "--classes, by their names": "n_classes num_classes classes_list",
    "--config": "cfg config_file conf",
    "--device cpu, cuda or cuda:1": "cpu no_cuda use_cuda gpu gpus gpu_id gpu_ids cuda n_gpu ngpu",
    "--mirror": "hflip flip horizontal_flip random_flip",
    "--augment, which without a name after it stops them": "no_aug no_augment",
    "--augment": "aug diffaugment diff_augment augmentation augmentations",
    "--checkpoint-every": "save_every save_interval save_freq checkpoint_interval snap "
        "snapshot_ticks",
    "--grid-every": "sample_every sample_interval sample_freq display_freq",
    "--log-every": "log_interval log_freq print_freq print_every",
    "--eval-every": "fid_every eval_interval eval_freq",
    "--family": "model arch architecture gan backbone network",
    "--loss": "loss_type gan_mode gan_loss adv_loss criterion",
    "--seed": "manual_seed random_seed manualseed",
    "--resume RUN, or --resume last": "checkpoint resume_path restart load pretrained "
        "continue_train resume_from resume_from_checkpoint ckpt "
        "load_checkpoint checkpoint_path",
    "--class-balance": "balanced class_weights weighted_sampler balance",
    "--spectral-norm": "sn use_sn spectral",
    "--conditioning": "conditional cond embed class_cond",
    "--label-smoothing": "smoothing smooth real_label",
}  # fmt: skip

ELSEWHERE = {name: here for here, names in _CALLED.items() for name in names.split()}
"""What to say, by the name that a setting has elsewhere."""


def unknown_setting(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown setting: what it is called here, or what is near it.

    Args:
        name: with underscores.
        known: the settings that there are.
    """
    folded = name.casefold()
    if folded in ELSEWHERE:
        return f"; here it is {ELSEWHERE[folded]}"
    return did_you_mean(name, known) or "; --help lists the settings"


def refuse_names_from_elsewhere(argv: Sequence[str], known: Collection[str]) -> None:
    """Say what a flag is called here where it is one that other programs have.

    Args:
        argv: the command line.
        known: the settings that there are, with underscores.

    Raises:
        UserError: naming the first such flag.
    """
    for word in argv:
        if not word.startswith("--"):
            continue
        flag = word.partition("=")[0]
        name = flag.removeprefix("--").replace("-", "_").casefold()
        if name in ELSEWHERE and name not in known:
            raise UserError(f"{flag}: there is no such setting; here it is {ELSEWHERE[name]}")
