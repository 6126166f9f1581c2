"""Settings that do not go together, refused by name before anything is made.

That each value fits its own setting is certain: `cxrgan_fast.setting.Settings` holds no others.
"""

from pathlib import Path

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import file_name_safe
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.setting import flag_of, settings_of
from cxrgan_fast.settings.config import EvaluationConfig, TrainConfig, flatten


def check(config: TrainConfig, *, resumed: bool = False) -> None:
    """Refuse settings that do not go together, by name.

    Args:
        config: The settings.
        resumed: Whether they are those of a run that goes on. What it keeps of evaluations is then
            no mistake where it goes on without them.

    Raises:
        UserError: With the setting, what came and what was expected.
    """
    flat = flatten(config)
    if flat["name"] and not file_name_safe(flat["name"]):
        raise UserError(f"--name {flat['name']!r}: expected a letter or a digit in it")
    if flat["noise_decay_steps"] and isinstance(flat["noise_std"], Schedule):
        raise UserError(
            f"--noise-decay-steps {flat['noise_decay_steps']} does nothing with --noise-std "
            f"{flat['noise_std']}, which is a schedule; leave it out"
        )
    if flat["optimizer"] == "rmsprop" and isinstance(flat["beta2"], Schedule):
        raise UserError(
            f"--beta2 {flat['beta2']} is a schedule, which --optimizer rmsprop cannot follow; give "
            "a number, or take --optimizer adam or adamw"
        )
    if flat["ada_target"] and isinstance(flat["augment_probability"], Schedule):
        raise UserError(
            f"--ada-target {flat['ada_target']} steers the probability, which is a schedule "
            f"(--augment-probability {flat['augment_probability']}); leave one of the two out, or "
            "give the probability to start from"
        )
    for known in settings_of(config).values():
        needs = known.setting.needs
        value, idle = flat[known.name], known.setting.idle
        if needs is None or value == known.default or (idle is not None and value == idle):
            continue
        if resumed and known.owner is EvaluationConfig:
            continue
        if not any(needs.met(flat[name]) for name in needs.settings):
            other = flat[needs.setting]
            got = "" if needs.but is not None else f", got {flag_of(needs.setting)} {other!s:.200}"
            raise UserError(f"{known.flag} does nothing {needs.text}{got}; leave it out")


def changed_on_resume(stored: TrainConfig, asked: TrainConfig, source: Path) -> None:
    """Refuse a resumed run whose hyperparameters differ from those ``source`` has ``stored``.

    A resumed run may go on longer, elsewhere, and report and evaluate differently; nothing else
    may change. Its data may have moved: that they are the same is seen from their content.

    Raises:
        UserError: Naming each setting that differs.
    """
    before, after = flatten(stored), flatten(asked)
    changed = [
        f"{known.flag} {after[name]} ({source.name} has {before[name]})"
        for name, known in settings_of(stored).items()
        # Where the family differs, which is named, so do its own settings.
        if name in after and not known.setting.resumable and before[name] != after[name]
    ]
    if changed:
        raise UserError(
            f"a resumed run keeps its settings, got {', '.join(changed)}; "
            "leave them out, or start a new run"
        )
