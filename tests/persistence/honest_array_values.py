"""Values of NumPy's and torch's kinds that honest policies hold, more of them: texts, records of objects, nested
tensors, memory by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch


def _texts() -> dict[str, Callable[[], Any]]:
    kind: Any = np.dtypes.StringDType
    return {
        "StringDType": lambda: np.array([["a", "b" * 50, ""]], kind()),
        "StringDType with None": lambda: np.array(["a", None], kind(na_object=None)),
        "StringDType with NaN": lambda: np.array(["a", np.nan], kind(na_object=np.nan)),
        "StringDType with a text": lambda: np.array(["a", "?"], kind(na_object="?")),
        "a StringDType": lambda: kind(coerce=False),
        "chararray": lambda: np.char.array(["a", "bb"]),
    }


def _arrays() -> dict[str, Callable[[], Any]]:
    objects = [("a", "i4"), ("b", object), ("c", [("d", "f4"), ("e", object)])]
    return {
        "records with objects": lambda: np.array([(1, None, (2, "x")), (3, {"y": 1}, (4, []))], objects),
        "a record with an object": lambda: np.array([(1, None)], [("a", "i4"), ("b", object)])[0],
        "records with rows and objects": lambda: np.zeros(2, [("a", "f4", (2,)), ("b", object)]),
        "a dtype with objects": lambda: np.dtype(objects),
        "a dtype with notes": lambda: np.dtype("f4", metadata={"unit": "m"}),
        "records of rows of objects": lambda: np.zeros(2, [("a", object, (2,))]),
        "masked records": lambda: np.ma.array([(1, 2.0)], [("a", int), ("b", float)], mask=[(0, 1)]),
        "masked objects": lambda: np.ma.array([1, None], object, mask=[0, 1]),
        "masked texts": lambda: np.ma.array(["a", "b"], mask=[0, 1]),
        "what is masked": lambda: np.ma.masked,
        "a masked matrix": lambda: np.ma.array(np.matrix([[1]]), mask=[[1]]),
        "an array that is read only": lambda: np.frombuffer(b"abcd", "u1"),
        "part of an array": lambda: np.arange(12).reshape(3, 4)[::2, ::-1],
        "axes in another order": lambda: np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    }


def _tensors() -> dict[str, Callable[[], Any]]:
    rows = lambda *more: [torch.ones(2, *more), torch.zeros(3, *more)]  # noqa: E731
    nested: Any = torch.nested.nested_tensor
    return {
        "a nested tensor": lambda: nested(rows()),
        "a nested tensor of matrices": lambda: nested(rows(4)),
        "a nested tensor with gradients": lambda: nested(rows(), requires_grad=True),
        "a jagged tensor": lambda: nested(rows(), layout=torch.jagged),
        "a jagged tensor with gradients": lambda: nested(rows(4), layout=torch.jagged, requires_grad=True),
        "a jagged tensor with lengths": lambda: torch.nested.narrow(
            torch.ones(2, 5, 3), 1, torch.tensor([0, 1]), torch.tensor([2, 3]), layout=torch.jagged
        ),
        "an untyped storage": lambda: torch.ones(2).untyped_storage(),
        "a typed storage": lambda: torch.ones(2).storage(),
        "a storage of truths": lambda: torch.tensor([True, False]).storage(),
        "an empty storage": lambda: torch.UntypedStorage(0),
        "BSC": lambda: torch.eye(4).to_sparse_bsc((2, 2)),
        "CSR in a batch": lambda: torch.stack([torch.eye(3)] * 2).to_sparse_csr(),
        "COO of rows": lambda: torch.sparse_coo_tensor([[0, 1]], torch.ones(2, 3), (4, 3)),
        "COO with gradients": lambda: torch.eye(3).to_sparse().requires_grad_(),
        "a sparse parameter": lambda: torch.nn.Parameter(torch.eye(3).to_sparse()),
        "a meta module": lambda: torch.nn.Linear(2, 2, device="meta"),
        "float8_e8m0fnu": lambda: torch.ones(2).to(torch.float8_e8m0fnu),
        "qint32": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint32),
        "quint4x2": lambda: torch.quantize_per_channel(
            torch.ones(2, 4), torch.ones(2), torch.zeros(2), 0, torch.quint4x2
        ),
        "a quantized layer": lambda: torch.ao.nn.quantized.Linear(2, 2),
        "UninitializedParameter": torch.nn.UninitializedParameter,
        "ParameterDict": lambda: torch.nn.ParameterDict({"a": torch.ones(1)}),
        "a parameter without gradients": lambda: torch.nn.Parameter(torch.ones(2), requires_grad=False),
        "the state of an optimizer": lambda: torch.optim.Adam(
            [torch.nn.Parameter(torch.ones(1))]
        ).state_dict(),
    }


def _tensor_dict() -> Any:
    from tensordict import TensorDict

    inner = TensorDict({"c": torch.zeros(2, 1)}, [2])
    return TensorDict({"a": torch.ones(2), "b": inner}, [2], names=["time"]).lock_()


def _specs() -> Any:
    from torchrl.data import Bounded, Categorical, Composite

    return Composite(a=Bounded(-1, 1, (2,)), b=Composite(c=Categorical(3)))


def _q_actor() -> Any:
    from torchrl.modules import MLP, QValueActor

    return QValueActor(
        MLP(in_features=2, out_features=2, num_cells=[4]), in_keys=["observation"], action_space="one-hot"
    )


def _libraries() -> dict[str, Callable[[], Any]]:
    return {
        "a locked TensorDict": _tensor_dict,
        "specs of TorchRL": _specs,
        "a Q actor of TorchRL": _q_actor,
        "an environment": lambda: gym.make("CartPole-v1"),
    }


def values() -> dict[str, Callable[[], Any]]:
    return {**_texts(), **_arrays(), **_tensors(), **_libraries()}
