"""The `State` tree: the one type in which live objects and stored bytes meet.

`perdure.state` makes a tree from live objects and writes it back into them; `perdure.store` makes it durable. This
package knows neither live objects nor files.

Vocabulary:

- *node*: None, bool, int, float and str stand for themselves; everything else is a `Node`. An object that is shared
  in the world is one `Node` that several others refer to.
- *document*: a tree as JSON (`encode`, `decode`).
- *structure*: all of a document but its numbers and arrays; it rarely changes from one checkpoint to the next.
- *message* (the module `message`): a tree as bytes for another process, its structure sent only once.
- *path*: where a node is, as a person would write it: `agent.optimizer.state[2].exp_avg`.
"""

from perdure._lazy import publish
from perdure.tree import message
from perdure.tree._arrays import (
    TORCH_DTYPES,
    Blob,
    flat,
    flat_bytes,
    itemsize,
    memory_order,
    numpy_dtype,
    numpy_notation,
)
from perdure.tree._codec import decode, document, encode
from perdure.tree._encoder import is_text
from perdure.tree._nodes import (
    BASE,
    GRAD,
    OBJECT_VIEW,
    PLAIN_TYPES,
    Array,
    Content,
    Custom,
    LiveArray,
    MappingNode,
    Node,
    NumberRun,
    Object,
    Omitted,
    Path,
    Plain,
    RepeatRun,
    SequenceNode,
    Slot,
    Source,
    Staged,
    State,
    Value,
    all_children,
    children,
    edges,
    field_path,
    key_path,
    shown,
    step_path,
    walk,
    write_path,
)

__all__ = [
    "BASE",
    "GRAD",
    "OBJECT_VIEW",
    "PLAIN_TYPES",
    "TORCH_DTYPES",
    "Array",
    "Blob",
    "Content",
    "Custom",
    "LiveArray",
    "MappingNode",
    "Node",
    "NumberRun",
    "Object",
    "Omitted",
    "Path",
    "Plain",
    "RepeatRun",
    "SequenceNode",
    "Slot",
    "Source",
    "Staged",
    "State",
    "Value",
    "all_children",
    "children",
    "decode",
    "document",
    "edges",
    "encode",
    "field_path",
    "flat",
    "flat_bytes",
    "is_text",
    "itemsize",
    "key_path",
    "memory_order",
    "message",
    "numpy_dtype",
    "numpy_notation",
    "shown",
    "step_path",
    "walk",
    "write_path",
]

publish(globals())
