"""Dictionaries of tensors, stacks of them, and what they keep that is no tensor: their own code never runs."""

from __future__ import annotations

from policy_gallery.assembler import NONE, TRUE, attack, call, d, g, get, i, in_policy, l, new, put, s, t, v

MAKE = g("tensordict._reductions", "_make_td")
PLAIN = g("tensordict._td", "TensorDict")
STACK = g("tensordict._lazy", "LazyStackedTensorDict")
TEXTS = g("tensordict.tensorclass", "NonTensorStack")
DATA = g("tensordict.tensorclass", "NonTensorData")
SHAPE = call(g("torch", "Size"), t())


def plain(**attributes: bytes) -> bytes:
    content = {
        "_tensordict": d(),
        "_batch_size": SHAPE,
        "_device": NONE,
        "_is_locked": NONE,
        "_td_dim_names": NONE,
    }
    return call(MAKE, PLAIN, d({**content, **attributes}))


def stack(cls: bytes = STACK, **attributes: bytes) -> bytes:
    content = {"tensordicts": l(plain()), "stack_dim": i(0), "_batch_size": SHAPE, "_is_locked": NONE}
    return call(MAKE, cls, d({**content, "hook_in": NONE, "hook_out": NONE, **attributes}))


def data(**state: bytes) -> bytes:
    whole = {
        "tensordict": plain(),
        "non_tensordict": d({"data": s("x"), "_is_non_tensor": TRUE, "_metadata": NONE}),
    }
    return new(DATA, state=d({**whole, **state}))


@attack("What these files are made from.", harmless=True)
def honest_ones() -> bytes:
    return in_policy(l(plain(), stack(), stack(TEXTS, tensordicts=l(data())), data()))


@attack("To lock a stack runs the methods of all that is in it.")
def a_locked_stack() -> bytes:
    return in_policy(stack(_is_locked=TRUE))


@attack("A stack of texts is locked like any other.")
def a_locked_stack_of_texts() -> bytes:
    return in_policy(stack(TEXTS, _is_locked=TRUE, tensordicts=l(data())))


@attack("A dictionary that is locked, with a forged object among its tensors.")
def a_locked_dictionary_with_an_object() -> bytes:
    return in_policy(plain(_is_locked=TRUE, _tensordict=d({"a": data()})))


@attack("The attribute would take the place of a method.")
def a_stack_with_another_method() -> bytes:
    return in_policy(stack(lock_=v("ran")))


@attack("The attribute would take the place of a method that copies use.")
def a_dictionary_with_another_getstate() -> bytes:
    return in_policy(plain(__getstate__=v("ran")))


@attack("A function that is called when the stack is used: nothing calls it while loading.", harmless=True)
def a_stack_with_a_hook() -> bytes:
    return in_policy(stack(hook_in=v("ran"), hook_out=v("ran")))


@attack("A class that was allowed is none of these dictionaries.")
def a_dictionary_of_another_class() -> bytes:
    return in_policy(call(MAKE, v("Policy"), d()))


@attack("A function in the place of a class.")
def a_dictionary_of_no_class() -> bytes:
    return in_policy(call(MAKE, v("ran"), d()))


@attack("Nothing is made up for a state that is missing.", harmless=True)
def a_dictionary_without_a_state() -> bytes:
    return in_policy(call(MAKE, STACK, NONE))


@attack("A state that is no table.")
def data_with_another_state() -> bytes:
    return in_policy(new(DATA, state=t(d(), d())))


@attack("Attributes in the place of a state.")
def data_with_attributes() -> bytes:
    return in_policy(new(DATA, state=d({"_tensordict": plain(), "_non_tensordict": d()})))


@attack("More than a state.")
def data_with_more() -> bytes:
    return in_policy(data(lock_=v("ran")))


@attack("An object of a class of one's own would answer for the dictionary.")
def data_with_a_forged_dictionary() -> bytes:
    return in_policy(data(tensordict=new(v("Plain"), state=d({"batch_size": s("x")}))))


@attack("A text in the place of a table.")
def data_with_a_text() -> bytes:
    return in_policy(data(non_tensordict=s("data")))


@attack("A constructor that is called with arguments.")
def data_from_its_constructor() -> bytes:
    return in_policy(call(DATA, s("x")))


@attack("A function that makes dictionaries of a description, and calls what it says.")
def a_dictionary_from_a_description() -> bytes:
    return in_policy(
        call(g("tensordict._reductions", "_rebuild_tensordict_files"), d(), d({"cls": v("ran")}))
    )


@attack("A stack that contains itself, so that locking or printing it would not end.", harmless=True)
def a_stack_of_itself() -> bytes:
    return in_policy(stack(tensordicts=l() + put(70)) + get(70) + stack() + b"a0")


@attack("Data in data, many thousand deep.", harmless=True)
def data_in_data() -> bytes:
    made = s("x")
    for _ in range(300):
        made = data(non_tensordict=d({"data": made}))
    return in_policy(made)
