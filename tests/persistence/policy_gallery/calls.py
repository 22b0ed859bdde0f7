"""Functions that a file would like to be called."""

from __future__ import annotations

from policy_gallery.assembler import (
    GETATTR,
    NONE,
    attack,
    call,
    d,
    g,
    i,
    in_policy,
    l,
    module,
    new,
    put,
    raw,
    s,
    t,
    v,
    whole,
)

FUNCTIONS = {
    ("posix", "system"): "Runs a command.",
    ("subprocess", "Popen"): "Starts a process.",
    ("__builtin__", "eval"): "Runs an expression.",
    ("__builtin__", "exec"): "Runs a program.",
    ("__builtin__", "compile"): "Makes code.",
    ("__builtin__", "__import__"): "Imports, which runs a module.",
    ("__builtin__", "open"): "Writes a file.",
    ("__builtin__", "setattr"): "Changes a class or a module of the program.",
    ("__builtin__", "map"): "Calls a function when somebody iterates.",
    ("__builtin__", "print"): "Calls `__str__` of an object that the file made.",
    ("__builtin__", "sorted"): "Calls comparisons of objects that the file made.",
    ("functools", "reduce"): "Calls a function.",
    ("operator", "methodcaller"): "Makes what calls a method.",
    ("operator", "attrgetter"): "Makes what takes any attribute.",
    ("importlib", "import_module"): "Imports, which runs a module.",
    ("cPickle", "loads"): "Hands bytes to an unpickler that allows everything.",
    ("torch.serialization", "load"): "Hands a file to an unpickler.",
    (
        "torch.storage",
        "_load_from_bytes",
    ): "Hands bytes to torch.load: torch's own files do so where no archive is.",
    ("torch.hub", "load"): "Downloads a program.",
    ("torch.jit", "load"): "Loads a program.",
    ("types", "FunctionType"): "Makes a function from code.",
    ("types", "CodeType"): "Makes code.",
    ("ctypes", "CDLL"): "Loads a library.",
    ("copyreg", "_reconstructor"): "Makes an object of a native class without its constructor.",
    ("copyreg", "__newobj__"): "Calls `__new__` with any arguments.",
    ("weakref", "finalize"): "Calls a function when an object goes away.",
    ("numpy.core.multiarray", "fromfile"): "Reads any file.",
    ("numpy", "load"): "Reads a file with a pickle in it.",
    ("policy_gallery.victims", "ran"): "A function that the live policy refers to.",
    (
        "policy_gallery.victims",
        "Loud",
    ): "The constructor of an allowed class could download and run anything.",
    ("policy_gallery.victims", "WithMeta"): "A metaclass decides what a call of its class does.",
    ("torch.nn.modules.linear", "Linear"): "The constructor of a layer takes memory as the file says.",
}


def _called(function: tuple[str, str]) -> bytes:
    return in_policy(call(g(*function), s("argument")))


for _function, _reason in FUNCTIONS.items():
    _make = (lambda function: lambda: _called(function))(_function)
    _make.__name__, _make.__module__ = f"{_function[0]}.{_function[1]}", __name__
    attack(_reason)(_make)


@attack("What a call returned is called.")
def a_call_of_what_a_call_made() -> bytes:
    return in_policy(call(call(g("collections", "OrderedDict")), s("x")))


@attack("A partial function is made by a function that is understood, and then called.")
def a_call_of_a_partial_function() -> bytes:
    partial = call(g("functools", "partial"), v("ran")) + t(v("ran"), t(), NONE, NONE) + b"b"
    return in_policy(call(partial, s("x")))


@attack("A bound method of an allowed class is called.")
def a_call_of_a_bound_method() -> bytes:
    return in_policy(call(call(GETATTR, new(v("Plain")), s("method")), s("x")))


@attack("A class method is reached through its class and called.")
def a_call_of_a_class_method() -> bytes:
    return in_policy(call(call(GETATTR, v("Plain"), s("make")), s("x")))


@attack("From a function to the globals of its module, and from there to everything.")
def the_globals_of_a_method() -> bytes:
    return in_policy(call(GETATTR, call(GETATTR, v("Plain"), s("method")), s("__globals__")))


@attack("`getattr` of a made object runs `__getattr__` of its class.")
def an_attribute_that_is_not_there() -> bytes:
    return in_policy(call(GETATTR, new(v("Loud")), s("whatever")))


@attack("`getattr` of a made object runs a property of its class.")
def a_property() -> bytes:
    return in_policy(call(GETATTR, new(v("Plain")), s("computed")))


@attack("A method of a plain list, called later.")
def a_method_of_a_list() -> bytes:
    return in_policy(call(GETATTR, l(), s("__class__")))


@attack("The class of an object leads to its bases and subclasses.")
def a_class_of_an_object() -> bytes:
    return in_policy(call(g("__builtin__", "type"), new(v("Plain"))))


@attack("`type` with three arguments makes a class.")
def a_new_class() -> bytes:
    return in_policy(call(g("__builtin__", "type"), s("X"), t(v("Plain")), d({"__del__": v("ran")})))


@attack("torch's function for tensors of a class of their own calls its first argument.")
def a_call_by_way_of_torch() -> bytes:
    return in_policy(call(g("torch._tensor", "_rebuild_from_type_v2"), v("ran"), v("Plain"), t(s("x")), d()))


@attack("The same, twice.")
def a_call_by_way_of_torch_twice() -> bytes:
    function = g("torch._tensor", "_rebuild_from_type_v2")
    return in_policy(call(function, function, v("Plain"), t(v("ran"), v("Plain"), t(s("x")), d()), d()))


@attack("NumPy's functions for generators call the constructor they are given.")
def a_call_by_way_of_numpy() -> bytes:
    return in_policy(call(g("numpy.random._pickle", "__generator_ctor"), s("PCG64"), v("ran")))


@attack("The key function of a defaultdict runs at the first missing key.", harmless=True)
def a_factory_that_runs_later() -> bytes:
    return in_policy(call(g("collections", "defaultdict"), v("ran")))


@attack(
    "A class as the factory of a defaultdict is made when the program asks for a missing key.",
    harmless=True,
)
def a_factory_that_constructs() -> bytes:
    return in_policy(call(g("collections", "defaultdict"), v("Loud")))


@attack("An object with `__call__` as the factory of a defaultdict.", harmless=True)
def a_factory_that_is_an_object() -> bytes:
    return in_policy(call(g("collections", "defaultdict"), new(v("Loud"))))


@attack("A value that an enumeration has not: its class could look for it in any way.")
def a_member_that_is_missing() -> bytes:
    return in_policy(call(v("Kind"), i(7)))


@attack("An object as the value of a member is compared with all of them.")
def a_member_found_by_comparison() -> bytes:
    return in_policy(call(v("Kind"), new(v("Numeric"))))


@attack("`__new__` of an allowed class runs with the file's arguments.")
def arguments_for_new() -> bytes:
    return in_policy(new(v("Loud"), s("x")))


@attack("A function in the place of a class.")
def an_object_of_a_function() -> bytes:
    return in_policy(new(v("ran")))


@attack("An object of NumPy's dtype that skips the checks of its function.")
def a_dtype_without_its_function() -> bytes:
    return in_policy(new(g("numpy", "dtype"), s("O8"), b"\x89", b"\x88"))


@attack("The path of a compiled module's context is not even looked at.", harmless=True)
def the_context_of_a_compiled_module() -> bytes:
    compiled = g("torch._dynamo.eval_frame", "OptimizedModule")
    inner = module(g("torch.nn.modules.linear", "Identity"))
    return in_policy(call(compiled, inner, call(g("posix", "system"), s("x"))))


@attack("An item of something else than the list around an object in the place of another.")
def an_item_by_computation() -> bytes:
    return in_policy(call(g("_operator", "getitem"), new(v("Table")), i(0)))


@attack("The position of an item is an object: it is compared with zero.")
def an_item_at_an_object() -> bytes:
    return in_policy(call(g("_operator", "getitem"), l(i(1)), new(v("Numeric"))))


@attack("A number that is an object is asked for `__index__` by whoever makes the tensor.")
def an_object_as_a_number() -> bytes:
    return in_policy(call(g("torch", "Size"), t(new(v("Numeric")))))


@attack("A text that is an object is compared with the names of generators.")
def an_object_as_the_name_of_a_generator() -> bytes:
    state = t(d({"bit_generator": new(v("Numeric")), "state": d()}), NONE)
    generator = call(g("numpy.random._pickle", "__bit_generator_ctor"), g("numpy.random._pcg64", "PCG64"))
    return in_policy(generator + state + b"b")


@attack("The state of a generator holds an object, which NumPy asks for its number.")
def an_object_in_the_state_of_a_generator() -> bytes:
    numbers = d({"state": new(v("Numeric")), "inc": i(1)})
    state = d(
        {"bit_generator": s("PCG64"), "state": numbers, "has_uint32": new(v("Numeric")), "uinteger": i(0)}
    )
    generator = call(g("numpy.random._pickle", "__bit_generator_ctor"), g("numpy.random._pcg64", "PCG64"))
    return in_policy(generator + t(state, NONE) + b"b")


@attack("An encoding is looked up in a registry that imports.")
def an_encoding_of_its_own() -> bytes:
    return in_policy(call(g("_codecs", "encode"), s("x"), s("uu")))


@attack("A dictionary that is told by its keys: `keys` and `__getitem__` of the class run.")
def a_dictionary_from_an_object() -> bytes:
    return in_policy(call(g("collections", "OrderedDict"), new(v("Table"))))


@attack("The whole file is a call.")
def nothing_but_a_call() -> bytes:
    return whole(call(g("posix", "system"), s("x")))


@attack("The exploit of shared/cases: an object whose `__setstate__` the file put there.")
def an_instance_with_a_setstate() -> bytes:
    made = module(g("torch.nn.modules.module", "Module"), __setstate__=v("ran"))
    return in_policy(made + put(1) + s("argument") + b"b")


@attack("A tensor whose data is asked for by another unpickler, as torch writes it outside of an archive.")
def bytes_that_are_a_pickle() -> bytes:
    return in_policy(
        call(g("torch.storage", "_load_from_bytes"), raw(b"\x80\x02cos\nsystem\nX\x01\0\0\0x\x85R."))
    )
