"""Names and attributes that would run code if anything in a file were imported, called or set without a check."""

from __future__ import annotations

from checkpoint_gallery import Forged, attack

CLASSES = [
    "os:system", "posix:system", "subprocess:Popen", "builtins:eval", "builtins:exec", "builtins:open", "builtins:type",
    "builtins:object", "functools:partial", "types:CodeType", "types:FunctionType", "importlib:import_module",
    "gallery_canary:Thing", "socket:socket", "threading:Thread", "ctypes:CDLL", "pathlib:Path",
    "tempfile:TemporaryDirectory",
    "torch.nn.modules.linear:Linear", "torch.utils.data.dataset:Dataset", "multiprocessing.context:Process",
]  # fmt: skip
for number, name in enumerate(CLASSES):

    @attack(
        f"a class: {name}",
        "a class that the script's objects do not show is not made, and not imported",
        refused="more",
    )
    def _(forged: Forged, name: str = name, kind: str = "odih"[number % 4]) -> None:
        below = {"o": {"args": "x"}, "d": {"args": "x"}, "i": ["x"], "h": "x"}[kind]
        forged.thing["more"] = forged.add([kind, name, below])


for name in (
    "__class__",
    "__dict__",
    "__reduce__",
    "__del__",
    "__getattr__",
    "__array_interface__",
    "__fspath__",
    "method",
):

    @attack(
        f"an attribute: {name}",
        "what means something to Python, and what shadows a method",
        refused=f"thing.{name}",
    )
    def _(forged: Forged, name: str = name) -> None:
        forged.thing[name] = "text"


@attack("a module's method as text", "the program is not replaced", refused="net.forward")
def _(forged: Forged) -> None:
    forged.part("net")[2]["forward"] = "text"


@attack("text in the place of a network", "the program is not replaced", refused="net")
def _(forged: Forged) -> None:
    forged.nodes[0][2]["net"] = "text"


@attack("another class for an object", "an object stays of its class", refused="thing")
def _(forged: Forged) -> None:
    forged.part("thing")[1] = "torch.nn.modules.linear:Linear"


@attack("an enum's member that is none", "only members of the script's enums", refused="enum")
def _(forged: Forged) -> None:
    forged.thing["more"] = forged.add(["v", "enum", ["http:HTTPStatus", "OK"]])


@attack("a part that the script has not got", "parts are the script's", refused="evil")
def _(forged: Forged) -> None:
    forged.nodes[0][2]["evil"] = forged.add(["o", "os:system", {}])
