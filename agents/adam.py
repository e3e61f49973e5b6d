"""Adam for processes that compile nothing with torch.

At its first step torch's own imports `torch._dynamo`, its compiler: a second or two of every start, and some sixty
megabytes.
"""

import inspect

import torch


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`; with `decoupled_weight_decay=True` it is `torch.optim.AdamW`.

    Its methods are torch's, without the wrappers that keep the compiler out of them and import it for that. Whoever
    compiles training with `torch.compile` takes torch's.
    """

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)
