"""Tests use one thread: their tensors are tiny, and threads that wait for each other would cost more than they give."""

import os

import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
torch.set_num_threads(1)
