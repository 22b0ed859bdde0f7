"""Pickles that no pickler writes."""

from __future__ import annotations

from policy_gallery.assembler import NONE, archive, attack, d, g, i, in_policy, l, policy, put, s, v, whole

OPCODES = {
    b"(" + s("x") + b"ios\nsystem\n": "An instance of a class, called with arguments.",
    b"(" + v("Loud") + b"o": "The same from the stack.",
    b"\x82\x01": "A class by a number in a registry of the program.",
    b"\x83\x01\x00": "The same by a longer number.",
    b"Px\n": "A reference to something outside, by text.",
    v("Loud") + b")}\x92": "`__new__` with keywords.",
    b"\x97": "A buffer from somewhere else.",
    b"]\x98": "A buffer that is read only.",
    b"2": "The top of the stack twice.",
    b"S'x'\n": "Text with escapes.",
    b"I12345\n": "A number as text.",
    b"F1.5\n": "The same with a fraction.",
    b"Vx\\u0041\n": "Text with other escapes.",
    b"\xff": "No opcode at all.",
}


def _forged(opcode: bytes) -> bytes:
    return in_policy(opcode)


for _opcode, _reason in OPCODES.items():
    _make = (lambda opcode: lambda: _forged(opcode))(_opcode)
    _make.__name__, _make.__module__ = f"opcode {_opcode[:1]!r} {_reason}", __name__
    attack(_reason)(_make)


@attack("A pickle that ends too early.")
def no_end() -> bytes:
    return archive(b"\x80\x02" + policy(NONE))


@attack("A pickle in which something follows: a second program for another reader.")
def something_after_the_end() -> bytes:
    return archive(b"\x80\x02" + policy(NONE) + b"." + l() + b".")


@attack("A pickle that leaves more than one object: which one counts depends on the reader.")
def two_objects() -> bytes:
    return whole(policy(NONE) + policy(NONE))


@attack("A pickle that leaves nothing.")
def no_object() -> bytes:
    return whole(b"")


@attack("A pickle that takes from an empty stack.")
def an_empty_stack() -> bytes:
    return whole(b"000" + NONE)


@attack("A tuple of what lies below a mark.")
def a_way_below_a_mark() -> bytes:
    return whole(l() + b"(" + b"\x85" + b"1")


@attack("A memo that was never filled.")
def a_memo_that_is_empty() -> bytes:
    return in_policy(b"h\x09")


@attack("A key without a value.")
def a_key_without_a_value() -> bytes:
    return in_policy(b"}(" + s("a") + b"u")


@attack("A global that is named by something else than text.")
def a_global_by_a_number() -> bytes:
    return in_policy(i(1) + s("x") + b"\x93")


@attack("Arguments in a list.")
def arguments_in_a_list() -> bytes:
    return in_policy(v("ran") + l(s("x")) + b"R")


@attack("An object of a class that is computed.")
def a_class_that_is_computed() -> bytes:
    return in_policy(d() + b")\x81")


@attack("A reference that is no tuple.")
def a_reference_that_is_a_number() -> bytes:
    return in_policy(i(1) + b"Q")


@attack("An object that is used before it is complete: its own state.")
def an_object_in_its_own_state() -> bytes:
    generator = g("random", "Random") + b")R" + put(1)
    from policy_gallery.assembler import get, t

    return in_policy(generator + t(i(3), get(1), NONE) + b"b")


@attack("A tuple that holds itself by way of a list is how picklers write one.", harmless=True)
def a_tuple_in_itself() -> bytes:
    from policy_gallery.assembler import get

    return in_policy(b"]" + put(1) + get(1) + b"\x85" + put(2) + b"a")
