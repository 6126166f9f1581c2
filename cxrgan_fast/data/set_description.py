"""What set.json of a packed set holds; ``cxrgan_fast.data.packed`` says what it means."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Description(BaseModel):
    """Every field of a set.json, in its right type; older sets have no notes."""

    model_config = ConfigDict(strict=True, extra="ignore")

    name: str
    class_names: list[str] = Field(min_length=1)
    shape: list[int] = Field(min_length=4, max_length=4)
    settings: dict[str, Any]
    left_out: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    notes: dict[str, int] = {}
    unused: list[str] = []
    sha256: dict[str, str]


def read_description(document: dict[str, Any]) -> Description:
    """Check what a set.json holds.

    Raises:
        ValueError: A field is missing or of another type; it is named.
    """
    try:
        return Description.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"set.json: {where}: {first['msg']}") from None
