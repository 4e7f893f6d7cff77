"""The papers behind the parts in use, as BibTeX."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper on arXiv.

    authors: as BibTeX writes them, with "and" between; empty where we could not check them: an entry without authors is better than a wrong one.
    """

    title: str
    arxiv: str
    year: int
    authors: str = ""

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def bibtex(self) -> str:
        """One @misc entry."""
        fields = {"title": f"{{{self.title}}}", "author": self.authors, "year": str(self.year), "eprint": self.arxiv, "archivePrefix": "arXiv", "url": self.url}
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
        return f"@misc{{arxiv-{self.arxiv},\n" + ",\n".join(lines) + "\n}"


LLADA = Paper(
    "Large Language Diffusion Models", "2502.09992", 2025,
    "Shen Nie and Fengqi Zhu and Zebin You and Xiaolu Zhang and Jingyang Ou and Jun Hu and Jun Zhou and Yankai Lin and Ji-Rong Wen and Chongxuan Li",
)  # fmt: skip
DREAM = Paper(
    "Dream 7B: Diffusion Large Language Models", "2508.15487", 2025,
    "Jiacheng Ye and Zhihui Xie and Lin Zheng and Jiahui Gao and Zirui Wu and Xin Jiang and Zhenguo Li and Lingpeng Kong",
)  # fmt: skip
MDLM = Paper(
    "Simple and Effective Masked Diffusion Language Models", "2406.07524", 2024,
    "Subham Sekhar Sahoo and Marianne Arriola and Yair Schiff and Aaron Gokaslan and Edgar Marroquin and Justin T. Chiu and Alexander Rush and Volodymyr Kuleshov",
)  # fmt: skip
FAST_DLLM = Paper(
    "Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding", "2505.22618", 2025,
    "Chengyue Wu and Hao Zhang and Shuchen Xue and Zhijian Liu and Shizhe Diao and Ligeng Zhu and Ping Luo and Song Han and Enze Xie",
)  # fmt: skip
DINFER = Paper(
    "dInfer: An Efficient Inference Framework for Diffusion Language Models", "2510.08666", 2025,
    "Yuxin Ma and Lun Du and Lanning Wei and Kun Chen and Qian Xu and Kangyu Wang and Guofeng Feng and Guoshan Lu and Lin Liu and Xiaojing Qi and others",
)  # fmt: skip
REMDM = Paper(
    "Remasking Discrete Diffusion Models with Inference-Time Scaling", "2503.00307", 2025,
    "Guanghan Wang and Yair Schiff and Subham Sekhar Sahoo and Volodymyr Kuleshov",
)  # fmt: skip
"""Papers that parts in more than one file come from; every other one stands beside its part."""


def papers_of(part: Any) -> Iterator[Paper]:
    """The papers of a part, and of the parts inside it: `spaced` has those of what it spaces."""
    yield from getattr(part, "papers", ())
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        for field in dataclasses.fields(part):
            yield from papers_of(getattr(part, field.name))


def citation(*parts: Any) -> str:
    """BibTeX of the papers behind decoders, windows, reuse rules and models, each once.

    A part may be an object or its class; one without a paper adds nothing.
    """
    return "\n\n".join(paper.bibtex for paper in dict.fromkeys(paper for part in parts for paper in papers_of(part)))
