"""The flags of ``python -m bench.reference_gan``."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

import torch

from bench.reference_settings import Settings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        from cxrgan_fast.errors import did_you_mean, printable

        if unknown := re.match(r"unrecognized arguments: (--[^ =]+)", message):
            message += did_you_mean(unknown[1], self._option_string_actions)
        self.exit(2, f"error: {printable(' '.join(message.split()))}\n")


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text[:60]!r}")
    return int(text)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The program's parser, whose errors are one line."""
    parser = _Parser(prog="python -m bench.reference_gan", description=description)
    parser.register("type", int, _whole)
    add = parser.add_argument
    usual = Settings()
    add("--data", default="phantom", help='folder of images, or "phantom" (default)')
    add("--family", choices=("resnet", "dcgan"), default=usual.family)
    add("--resolution", type=int, choices=(32, 64, 128, 256), default=usual.resolution)
    add("--base-channels", type=int, default=usual.base_channels, help="at 64 pixels (default 32)")
    add("--batch-size", type=int, default=usual.batch_size)
    add("--steps", type=int, default=100)
    add("--amp", action="store_true", help="autocast to bfloat16, or float16 where there is none")
    add("--channels-last", action="store_true")
    add("--compile", action="store_true", help="torch.compile of both networks")
    add("--workers", type=int, default=2, help="processes of the DataLoader (default 2)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--seed", type=int, default=0)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What the command line says; ends with one line where it cannot be."""
    arguments = parser.parse_args()
    for name, least in (("base_channels", 8), ("batch_size", 1), ("steps", 1), ("workers", 0)):
        value = getattr(arguments, name)
        if value < least:
            parser.error(f"--{name.replace('_', '-')}: got {value}, expected {least} or more")
    for flag, text in (("--data", arguments.data), ("--device", arguments.device)):
        if not text.strip() or "\0" in text:
            parser.error(f"{flag}: got {text!r}: give a value, or leave it out")
    return arguments
