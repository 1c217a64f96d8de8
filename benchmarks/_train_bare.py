"""The bare model: timm, torch and random pictures that lie in memory, nothing else; what `train` compares with.

    python -m benchmarks._train_bare OUT.json '{"side": 64, "batch": 32, …}'        the fields of `_train_jobs.Bare`

Writes the same as `_train_watch`. It computes what a step of the trainer computes (uint8 pictures, normalised in
float32; binary cross-entropy; fused AdamW, no decay for biases and norms), and must not import the trainer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as training.run does

import timm
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks._train_jobs import Bare

__all__ = ["run"]

_POOL = 8  # batches that lie in memory, taken in turn


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    decayed = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-4, fused=True)


def run(plan: Bare) -> dict[str, Any]:
    """The steps, timed as `_train_watch` times them."""
    torch.manual_seed(0)
    torch.set_num_threads(plan.threads or len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
    device = torch.device(plan.device)
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    model = timm.create_model(plan.model, num_classes=1).train().to(device).to(memory_format=layout)
    forward: Any = torch.compile(model) if plan.compile else model
    optimizer, amp = _optimizer(model), {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[plan.amp]
    shape = (_POOL, plan.batch, plan.side, plan.side, 3)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = torch.randint(0, 2, (_POOL, plan.batch), device=device).float()
    half = torch.full((3,), 0.5, device=device)
    asked = []
    for step in range(plan.steps + 1):
        if device.type == "cuda" and step in (plan.skip, plan.steps):
            torch.cuda.synchronize()
        asked.append(time.perf_counter())
        if step == plan.steps:
            break
        normal = (pictures[step % _POOL].float() / 255.0 - half) / half
        with torch.autocast(device.type, amp, enabled=amp is not None):
            logits = forward(normal.permute(0, 3, 1, 2).contiguous(memory_format=layout)).float()[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, labels[step % _POOL])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {"asked": asked, "got": asked[:-1], "rows": [plan.batch] * plan.steps, "peak": peak}


def main(words: list[str]) -> None:
    """Run once."""
    Path(words[0]).write_text(json.dumps(run(Bare(**json.loads(words[1])))))


if __name__ == "__main__":
    main(sys.argv[1:])
