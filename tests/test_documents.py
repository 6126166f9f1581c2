"""What the documents name is there: files, links and modules that are run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
TOP = ("bench", "csrc", "cxrgan_fast", "docs", "kernels", "research", "tests")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_links_and_modules_are_there(document):
    text = document.read_text()
    files = re.findall(r"`([\w.*/-]+\.(?:py|cpp|h|cu|cuh|sh|json|md|toml))`", text)
    missing = [
        name
        for name in files
        # A name with capitals is a placeholder; one without a folder stands beside another.
        if name.split("/")[0] in TOP and "NAME" not in name and not list(ROOT.glob(name))
    ]
    missing += [
        link
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
        if not (document.parent / link).exists()
    ]
    modules = [module.replace(".", "/") for module in re.findall(r"python -m ([\w.]+)", text)]
    missing += [
        module
        for module in modules
        if module.split("/")[0] in TOP and not module.endswith("/X")
        if not ((ROOT / f"{module}.py").exists() or (ROOT / module / "__main__.py").exists())
    ]
    assert not missing
