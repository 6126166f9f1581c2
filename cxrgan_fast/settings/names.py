"""What people call settings elsewhere, and what they are called here."""

from collections.abc import Mapping, Sequence

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.setting import Known

# The same of options that are no settings, and of what is no option of its own here.
_OTHERS = {
    "--resume RUN, or --resume last": "checkpoint resume_path restart load pretrained "
        "continue_train resume_from resume_from_checkpoint ckpt load_checkpoint checkpoint_path",
    "--config": "cfg config_file conf",
    "--augment, which without a name after it stops them": "no_aug no_augment",
}  # fmt: skip


def answers_to(settings: Mapping[str, Known]) -> dict[str, str]:
    """Map each name that a setting has elsewhere to what is said about it.

    Args:
        settings: those that there are, by name.
    """
    others = {name: answer for answer, names in _OTHERS.items() for name in names.split()}
    return others | {
        name: known.setting.answer or known.flag
        for known in settings.values()
        for name in known.setting.elsewhere.split()
    }


def unknown_setting(name: str, settings: Mapping[str, Known]) -> str:
    """Word the end of a message about an unknown setting: its name here, or a similar one.

    Args:
        name: name of the setting, with underscores.
        settings: those that there are, by name.
    """
    if answer := answers_to(settings).get(name.casefold()):
        return f"; here it is {answer}"
    return did_you_mean(name, settings) or "; --help lists the settings"


def refuse_names_from_elsewhere(argv: Sequence[str], settings: Mapping[str, Known]) -> None:
    """Say what a flag is called here where it is one that other programs have.

    Args:
        argv: the command line.
        settings: those that there are, by name.

    Raises:
        UserError: naming the first such flag.
    """
    answers = answers_to(settings)
    for word in argv:
        if not word.startswith("--"):
            continue
        flag = word.partition("=")[0]
        name = flag.removeprefix("--").replace("-", "_").casefold()
        if name in answers and name not in settings:
            raise UserError(f"{flag}: there is no such setting; here it is {answers[name]}")
