"""Copies tensors from an accelerator into main memory while the training goes on. Knows streams, and nothing of
checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

#: A tensor, its physical layout (the axes from the slowest to the fastest), and the memory for its bytes.
Copy = tuple[torch.Tensor, tuple[int, ...], "np.ndarray[Any, Any]"]


def begin(copies: Sequence[Copy]) -> Callable[[], None]:
    """Start copying tensors as they are at this point of the program.

    The copies run on a separate stream. They wait for everything that the program has asked of the device so far, and
    what it asks next waits for them; the calling thread does not wait.

    :param copies: into pinned memory; with other memory the calling thread does wait.
    :returns: waits until all bytes are there. Any thread may call it, and must before the bytes are used.
    """
    waits: list[Callable[[], None]] = []
    for device in dict.fromkeys(tensor.device for tensor, _, _ in copies):
        module: Any = torch.get_device_module(device)
        current, stream, done = module.current_stream(device), module.Stream(device=device), module.Event()
        stream.wait_stream(current)
        with module.stream(stream):
            for tensor, order, target in copies:
                if tensor.device == device:
                    source = tensor.detach().permute(order)
                    torch.from_numpy(target).view(source.dtype).view(source.shape).copy_(
                        source, non_blocking=True
                    )
                    # Its memory must not be given to another tensor before it is copied.
                    tensor.record_stream(stream)
            done.record(stream)
        current.wait_stream(stream)
        waits.append(done.synchronize)

    def wait() -> None:
        for each in waits:
            each()

    return wait


def pinned(nbytes: int) -> np.ndarray[Any, Any]:
    """Main memory that an accelerator can write to directly."""
    memory: np.ndarray[Any, Any] = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy()
    return memory
