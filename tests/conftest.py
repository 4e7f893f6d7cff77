"""One thread per test process: many small tensors, two cores, two workers."""

import torch

torch.set_num_threads(1)
