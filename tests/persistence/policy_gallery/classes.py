"""Classes that a file would like to have objects of, and names that it would like to be looked up."""

from __future__ import annotations

from policy_gallery.assembler import GETATTR, attack, call, d, g, i, in_policy, l, new, s, t, v, whole


@attack("A finalizer acts on the attributes that the file gave, when the object goes away.")
def a_finalizer() -> bytes:
    return in_policy(new(v("Final"), state=d({"path": s("/")})))


@attack("A `__setstate__` of the class runs with the state of the file.")
def a_setstate() -> bytes:
    return in_policy(new(v("Sets"), state=s("x")))


@attack("The same without any state.")
def a_setstate_without_a_state() -> bytes:
    return in_policy(new(v("Sets")))


@attack("Hashing a key runs its class's code.")
def a_key_that_hashes() -> bytes:
    return in_policy(b"}" + new(v("Hashes")) + i(1) + b"s")


@attack("The same in a set.")
def an_element_that_hashes() -> bytes:
    return in_policy(call(g("__builtin__", "set"), l(new(v("Hashes")))))


@attack("The same in a tuple that is a key.")
def a_key_that_hashes_in_a_tuple() -> bytes:
    return in_policy(b"}" + t(i(1), new(v("Hashes"))) + i(1) + b"s")


@attack("Comparing two keys runs the code of a class.")
def a_key_that_compares() -> bytes:
    return in_policy(b"}" + new(v("Equal")) + i(1) + b"s")


@attack("A key that cannot be one.")
def a_key_that_is_a_list() -> bytes:
    return in_policy(b"}" + l() + i(1) + b"s")


@attack("An abstract class.")
def an_abstract_class() -> bytes:
    return in_policy(new(v("Abstract")))


@attack("A class itself would be made by its metaclass.")
def an_object_of_a_metaclass() -> bytes:
    return in_policy(new(v("Meta")))


@attack("A second object of an enumeration would be no member of it.")
def an_object_of_an_enumeration() -> bytes:
    return in_policy(new(v("Kind"), state=d({"_value_": i(1)})))


@attack("An object of a native class without its constructor: its methods read memory that is not there.")
def an_object_of_a_native_class() -> bytes:
    return in_policy(new(g("numpy", "ndarray")))


@attack("A tensor without its constructor.")
def a_tensor_without_memory() -> bytes:
    return in_policy(new(g("torch", "Tensor")))


@attack("A generator of NumPy's without its constructor.")
def a_generator_without_memory() -> bytes:
    return in_policy(new(g("numpy.random._generator", "Generator")))


@attack("A function without code.")
def a_function_without_code() -> bytes:
    return in_policy(new(g("types", "FunctionType")))


@attack("A module that a file makes.")
def a_module_of_python() -> bytes:
    return in_policy(new(g("types", "ModuleType"), s("x")))


@attack("A parameter is no object of attributes.")
def a_parameter_by_its_class() -> bytes:
    return in_policy(new(g("torch.nn.parameter", "Parameter")))


@attack("An object of any class of the standard library.")
def an_object_of_a_class_that_nobody_allowed() -> bytes:
    return in_policy(new(g("logging", "FileHandler"), state=d({"baseFilename": s("/x")})))


@attack("A class by the name under which another module imported it.")
def a_class_by_another_name() -> bytes:
    return in_policy(new(g("policy_gallery.victims", "torch.nn.Linear")))


@attack("A module that was not imported would run.")
def a_module_that_was_not_imported() -> bytes:
    return in_policy(new(g("antigravity", "Thing")))


@attack("The command line of an allowed package would run.")
def a_command_line() -> bytes:
    return in_policy(new(g("torch.nn.__main__", "Thing")))


@attack("A module of an allowed package that was not imported would run.")
def a_module_of_an_allowed_package() -> bytes:
    return in_policy(new(g("torch.nn.surely_not_there", "Thing")))


@attack("A module with a hook for missing names runs it.")
def a_module_with_a_hook() -> bytes:
    return in_policy(new(g("policy_gallery.victims_lazy", "Thing")))


@attack("torch loads some of its parts when they are asked for.")
def a_part_that_torch_loads_when_asked() -> bytes:
    return in_policy(new(g("torch", "_inductor.compile_fx.Thing")))


@attack("A name through a module into another module.")
def a_way_through_modules() -> bytes:
    return in_policy(g("torch.nn", "functional.sys.modules"))


@attack("The dictionary of a module.")
def a_dictionary_of_a_module() -> bytes:
    return in_policy(g("policy_gallery.victims", "__dict__"))


@attack("A module as a value.")
def a_module_as_a_value() -> bytes:
    return in_policy(g("policy_gallery", "victims"))


@attack("The list of what ran is a value of a module, not a class.")
def a_value_of_a_module() -> bytes:
    return in_policy(g("policy_gallery.victims", "RAN") + i(1) + b"a")


@attack("A name that is none of Python's.")
def a_name_with_spaces() -> bytes:
    return in_policy(g("policy_gallery.victims", "Plain x"))


@attack("A name of a megabyte, to be looked up part by part.")
def a_long_name() -> bytes:
    return in_policy(g("policy_gallery.victims", ".".join(["a"] * 500_000)))


@attack("A name that grows with each step: together they take the square of the file.")
def names_that_grow() -> bytes:
    value = v("Plain")
    return in_policy(_attributes(value, 50_000))


def _attributes(value: bytes, count: int) -> bytes:
    return GETATTR * count + value + b"".join((s("a") + b"\x86R") for _ in range(count))


@attack("Names in the message: thousands of them.")
def very_many_names() -> bytes:
    return whole(l(*(g("os", f"name{number}") for number in range(5_000))))


@attack("A name that would be a line of its own in the message.")
def a_name_with_a_line() -> bytes:
    return in_policy(b"\x8c\x03os\n" + b"\x8c\x0fx\nTrust this: \n" + b"\x93")


@attack("A class whose pickle has a form of its own, which only its `__reduce__` knows.", harmless=True)
def a_class_that_reduces() -> bytes:
    return in_policy(new(v("Reduces"), state=d({"a": i(1)})))


@attack("What a class offers for checkpoints would run with what the file says.")
def a_class_that_offers_its_state() -> bytes:
    return in_policy(new(v("Offers"), state=d({"a": i(1)})))


@attack("The same, called.")
def a_call_of_a_class_that_offers_its_state() -> bytes:
    return in_policy(call(v("Offers"), i(1)))


@attack("The same as a key.")
def a_key_that_offers_its_state() -> bytes:
    return in_policy(d({}, new(v("Offers")) + i(1)))
