"""Attributes and contents that a file would like an object to have."""

from __future__ import annotations

from policy_gallery.assembler import (
    DICT,
    GETATTR,
    NONE,
    attack,
    call,
    d,
    g,
    get,
    i,
    in_policy,
    l,
    module,
    new,
    policy,
    put,
    s,
    t,
    v,
    whole,
)


@attack("An attribute in the place of `forward` runs when the policy is used, whatever its class says.")
def forward() -> bytes:
    return whole(policy(NONE, forward=v("ran")))


@attack("An attribute in the place of `state_dict` runs when the policy is restored into a live one.")
def state_dict() -> bytes:
    return whole(policy(NONE, state_dict=v("ran")))


@attack("An attribute in the place of `train`, which evaluation mode calls.")
def train() -> bytes:
    return whole(policy(NONE, train=v("ran")))


@attack("A class as the attribute is called like a function, and constructs.")
def a_class_in_the_place_of_a_method() -> bytes:
    return whole(policy(NONE, eval=v("Loud")))


@attack("An object would pretend to be of another class.")
def the_class_of_an_object() -> bytes:
    return in_policy(new(v("Plain"), state=d({"__class__": v("Loud")})))


@attack("All attributes at once, by their dictionary.")
def the_dictionary_of_an_object() -> bytes:
    return in_policy(new(v("Plain"), state=d({"__dict__": d({"method": v("ran")})})))


@attack("A special method in an object.")
def a_special_method() -> bytes:
    return in_policy(new(v("Plain"), state=d({"__reduce_ex__": v("ran")})))


@attack("A property with a setter runs when it is assigned.", harmless=True)
def a_property() -> bytes:
    return in_policy(new(v("Plain"), state=d({"computed": i(1)})))


@attack("A class that watches assignments runs at each.", harmless=True)
def assignments() -> bytes:
    return in_policy(new(v("Loud"), state=d({"a": i(1)})))


@attack("An attribute that its class keeps for all objects is changed for one only.", harmless=True)
def an_attribute_of_the_class() -> bytes:
    return in_policy(new(v("Plain"), state=d({"shared": l(i(1))})))


@attack("A state for a class itself changes it for the whole program.")
def the_state_of_a_class() -> bytes:
    return in_policy(v("Plain") + t(NONE, d({"method": v("ran")})) + b"b")


@attack("A state for a member of an enumeration changes it for the whole program.")
def the_state_of_a_member() -> bytes:
    return in_policy(call(v("Kind"), i(1)) + d({"_value_": i(2)}) + b"b")


@attack("A state for a member, found by its name.")
def the_state_of_a_member_by_name() -> bytes:
    return in_policy(call(GETATTR, v("Kind"), s("A")) + d({"_value_": i(2)}) + b"b")


@attack("The second state of an object calls the `__setstate__` that the first one put there.")
def a_second_state() -> bytes:
    return in_policy(new(v("Plain"), state=d({"a": v("ran")})) + s("x") + b"b")


@attack("A state for a plain list.")
def the_state_of_a_list() -> bytes:
    return in_policy(l(i(1)) + d({"append": v("ran")}) + b"b")


@attack("A state for the one empty tuple that Python has.")
def the_state_of_the_empty_tuple() -> bytes:
    return in_policy(t() + d({"a": i(1)}) + b"b")


@attack("A state that is no dictionary, where `__setstate__` of nobody could take it.")
def a_state_that_is_text() -> bytes:
    return in_policy(new(v("Plain"), state=s("x")))


@attack("A state whose class runs when its items are asked for.")
def a_state_of_a_class_of_its_own() -> bytes:
    return in_policy(new(v("Plain"), state=new(v("Table"))))


@attack("An attribute whose name is no text.")
def a_name_that_is_a_number() -> bytes:
    return in_policy(new(v("Plain"), state=b"}" + i(1) + i(2) + b"s"))


@attack("A slot that the class does not have.")
def a_slot_that_is_not_there() -> bytes:
    return in_policy(new(v("Slotted"), state=t(NONE, d({"b": i(1)}))))


@attack("An attribute in a slot.", harmless=True)
def a_slot() -> bytes:
    return in_policy(new(v("Slotted"), state=t(NONE, d({"a": i(1)}))))


@attack("Contents put into a class.")
def items_of_a_class() -> bytes:
    return in_policy(v("Plain") + b"(" + s("method") + v("ran") + b"u")


@attack("Contents put into a list that an allowed class keeps for itself.")
def items_of_an_attribute() -> bytes:
    return in_policy(call(GETATTR, v("Plain"), s("shared")) + i(1) + b"a")


@attack("Contents put into a tuple.")
def items_of_a_tuple() -> bytes:
    return in_policy(t(i(1)) + i(2) + b"a")


@attack("`__setitem__` of the class would run for each pair.", harmless=True)
def pairs_of_a_class_of_its_own() -> bytes:
    return in_policy(new(v("Table")) + b"(" + s("a") + i(1) + b"u")


@attack("`append` and `extend` of the class would run for each item.", harmless=True)
def items_of_a_class_of_its_own() -> bytes:
    return in_policy(new(v("Items")) + b"(" + i(1) + i(2) + b"e" + i(1) + b"a")


@attack("Pairs put into an object that only looks like a dictionary.")
def pairs_of_an_object() -> bytes:
    return in_policy(new(v("Loud")) + s("a") + i(1) + b"s")


@attack("A hook of the file runs in `state_dict` while it is restored: a function.", harmless=True)
def hooks_that_are_functions() -> bytes:
    hooks = call(DICT) + b"(" + i(1) + v("ran") + b"u"
    return whole(policy(NONE, _state_dict_pre_hooks=hooks, _state_dict_hooks=d()))


@attack("A hook of the file runs in `state_dict` while it is restored: a class.", harmless=True)
def hooks_that_are_classes() -> bytes:
    hooks = call(DICT) + b"(" + i(1) + v("Loud") + b"u"
    return whole(policy(NONE, _state_dict_hooks=hooks, _state_dict_pre_hooks=d()))


@attack("A hook of a layer in the policy, not of the policy.", harmless=True)
def hooks_of_a_layer() -> bytes:
    hooks = b"}" + i(1) + new(v("Loud")) + b"s"
    layer = module(g("torch.nn.modules.linear", "Identity"), _state_dict_pre_hooks=hooks)
    return whole(module(v("Policy"), _modules=d({"layer": layer})))


@attack("Hooks in an object whose class runs when somebody asks whether there are any.")
def hooks_in_an_object() -> bytes:
    return whole(policy(NONE, _state_dict_pre_hooks=new(v("Table"))))


@attack("A table of modules whose class runs when somebody goes through it.")
def modules_in_an_object() -> bytes:
    return whole(module(v("Policy"), _modules=new(v("Table"))))


@attack("An object in the place of a module: its `train` and `state_dict` run.")
def a_module_that_is_none() -> bytes:
    return whole(module(v("Policy"), _modules=d({"layer": new(v("Loud"))})))


@attack("A class in the place of a module.")
def a_module_that_is_a_class() -> bytes:
    return whole(module(v("Policy"), _modules=d({"layer": v("Loud")})))


@attack("An object in the place of a parameter.")
def a_parameter_that_is_none() -> bytes:
    return whole(module(v("Policy"), _parameters=d({"weight": new(v("Loud"))})))


@attack("A list in the place of the table of buffers.")
def buffers_in_a_list() -> bytes:
    return whole(module(v("Policy"), _buffers=l(i(1))))


@attack("A module that holds itself: whoever goes through the modules never ends.")
def a_module_in_itself() -> bytes:
    made = new(v("Policy")) + put(1)
    return whole(made + d({"_modules": d({"layer": get(1)})}) + b"b")


@attack("The settings of an optimizer in an object, where torch adds what older files have not.")
def an_optimizer_with_settings_in_an_object() -> bytes:
    groups = l(new(v("Table")))
    return in_policy(
        new(g("torch.optim.adam", "Adam"), state=d({"param_groups": groups, "defaults": d(), "state": d()}))
    )


@attack("The weights of a recurrent layer are objects: torch refers to them.")
def a_recurrent_layer_of_objects() -> bytes:
    weights = {"_flat_weights": l(new(v("Loud"))), "_all_weights": l()}
    return in_policy(module(g("torch.nn.modules.rnn", "LSTM"), **weights))


@attack("A gadget of torch's that takes attributes of objects, inside of a policy.", harmless=True)
def a_wrapper_that_takes_attributes() -> bytes:
    wrapper = new(
        g("torch.nn.cpp", "OrderedDictWrapper"), state=d({"cpp_module": v("Plain"), "attr": s("method")})
    )
    return in_policy(wrapper)


@attack("The same in the place of a table of modules, as in the exploit of shared/cases.")
def a_wrapper_in_the_place_of_a_table() -> bytes:
    wrapper = new(
        g("torch.nn.cpp", "OrderedDictWrapper"), state=d({"cpp_module": v("Plain"), "attr": s("method")})
    )
    return whole(module(v("Policy"), _modules=wrapper))


@attack("An attribute of the tensor's class, which torch keeps beside the data.")
def an_attribute_of_a_tensor() -> bytes:
    from policy_gallery.assembler import FALSE, storage

    parts = t(storage("0", 4), i(0), t(i(4)), t(i(1)), FALSE, call(DICT))
    function = g("torch._utils", "_rebuild_tensor_v2")
    rebuilt = call(
        g("torch._tensor", "_rebuild_from_type_v2"),
        function,
        g("torch", "Tensor"),
        parts,
        d({"numpy": v("ran")}),
    )
    return in_policy(rebuilt)


@attack("A hook of a tensor runs at its next gradient.")
def hooks_of_a_tensor() -> bytes:
    from policy_gallery.assembler import FALSE, storage

    hooks = call(DICT) + b"(" + i(1) + v("ran") + b"u"
    return in_policy(
        call(g("torch._utils", "_rebuild_tensor_v2"), storage("0", 4), i(0), t(i(4)), t(i(1)), FALSE, hooks)
    )


@attack("The groups of an optimizer in an object that runs when somebody goes through them.")
def an_optimizer_with_groups_in_an_object() -> bytes:
    state = d({"param_groups": new(v("Pretends")), "defaults": d(), "state": d()})
    return in_policy(new(g("torch.optim.adam", "Adam"), state=state))


@attack(
    "A hook that belongs to a module, if an object says so: it is asked whether it is true.", harmless=True
)
def a_hook_that_may_have_a_module() -> bytes:
    return in_policy(
        new(g("torch.nn.modules.module", "_WrappedHook"), state=d({"with_module": new(v("Pretends"))}))
    )


@attack("A hook of something that is no module.")
def a_hook_of_an_object() -> bytes:
    state = d({"with_module": b"\x88", "module": new(v("Pretends"))})
    return in_policy(new(g("torch.nn.modules.module", "_WrappedHook"), state=state))


@attack("An object as a policy: it runs when somebody asks whether it is a module.")
def a_policy_that_pretends() -> bytes:
    return whole(module(v("Policy"), _modules=d({"layer": new(v("Pretends"))})))


@attack("An object as the whole file: it runs when somebody asks what it is.", harmless=True)
def nothing_but_an_object() -> bytes:
    return whole(new(v("Pretends")))
