"""`torch.autocast("pretend")`: matrix products in the low precision and sensitive functions in float32, as on CUDA.

Imported by helpers/pretend_device.py. Operators on neither list compute in the dtype that they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LOW = (
    "matmul", "mm", "bmm", "mv", "addmm", "addmv", "baddbmm", "addbmm", "linear", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input", "prelu", "scaled_dot_product_attention",
)  # fmt: skip
"""Operators whose floating point tensors are cast to the dtype of the context."""
FLOAT32 = (
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh",
    "tan", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm", "group_norm",
    "cosine_similarity", "nll_loss", "nll_loss2d", "cross_entropy_loss", "kl_div", "l1_loss", "smooth_l1_loss",
    "huber_loss", "mse_loss", "binary_cross_entropy_with_logits", "triplet_margin_loss", "cosine_embedding_loss",
    "margin_ranking_loss", "dist", "pdist", "cdist", "renorm", "logsumexp", "prod", "prod.dim_int", "softmax.int",
    "log_softmax.int", "cumprod", "cumsum", "linalg_vector_norm", "linalg_matrix_norm", "norm.Scalar",
    "norm.ScalarOpt_dim", "sum", "sum.dim_IntList",
)  # fmt: skip
"""Operators whose floating point tensors are cast to float32."""


def register(library: torch.library.Library, device: str, map_tensors: Callable[..., Any]) -> None:
    """Register the casts of a device.

    Args:
        library: of the operators of "aten".
        device: the name of the device.
        map_tensors: applies a function to the tensors of a nest of lists and tuples.
    """
    key = "AutocastPrivateUse1"
    below = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast_before(operator: Any, dtype: torch.dtype | None) -> Callable[..., Any]:
        def cast(x: Tensor) -> Tensor:
            moves = x.is_floating_point() and x.dtype != torch.float64
            return x.to(dtype or torch.get_autocast_dtype(device)) if moves else x

        def kernel(*args: Any, **kwargs: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(below):
                return operator(*map_tensors(cast, args), **{k: map_tensors(cast, v) for k, v in kwargs.items()})

        return kernel

    for names, dtype in ((LOW, None), (FLOAT32, torch.float32)):
        for name in names:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(name, cast_before(operator, dtype), key)
