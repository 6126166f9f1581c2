"""Schemas of the registered ops, as each version of PyTorch comes by them."""

import re

import torch

from cxrgan_fast.ops import registration


def test_every_schema_can_be_inferred_by_versions_that_do_not_take_it():
    """PyTorch before 2.9 infers the schema of a Triton op from the annotations of its function."""
    names = [name for name in torch._C._dispatch_get_all_op_names() if "cxrgan_fast::" in name]
    assert len(names) > 8
    for name in names:
        found = getattr(torch.ops.cxrgan_fast, name.partition("::")[2].partition(".")[0]).default
        signature = "(" + str(found._schema).partition("(")[2]

        def call(*inputs: object) -> object:
            return inputs

        call.__signature__ = registration._annotated(signature)
        inferred = torch.library.infer_schema(call, mutates_args=())
        # Inferred results have no names, and integers may be symbols.
        arguments, results = signature.split(" -> ")
        unnamed = re.sub(r"Tensor \w+", "Tensor", results)
        expected = f"{arguments} -> {unnamed}"
        assert inferred.replace("SymInt", "int") == expected.replace("SymInt", "int")
