"""The stack of a pickle: what the rarer opcodes do to it, and what is salvaged when a budget runs out."""

from __future__ import annotations

import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import TYPE_CHECKING, TypeVar

from collector.pickles.budgets import MAX_CONTAINERS, MAX_DEPTH
from collector.pickles.errors import OverBudgetError, RecordError
from collector.pickles.meanings import masks_itself
from collector.pickles.opcodes import (
    ADDITEMS,
    APPEND,
    APPENDS,
    BUILD,
    DICT,
    DUP,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    FRAME,
    FROZENSET,
    GLOBAL,
    INST,
    LIST,
    MARK,
    MEMOIZE,
    NEWOBJ,
    NEWOBJ_EX,
    OBJ,
    POP,
    POP_MARK,
    PROTO,
    REDUCE,
    SETITEM,
    STACK_GLOBAL,
    TUPLE,
    TUPLE1,
    TUPLE2,
    TUPLE3,
    claimed,
    line_at,
    u64,
)
from collector.pickles.placeholder import Placeholder
from collector.pickles.rebuild import KEY_TYPES, as_keys, is_key, rebuild

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_PROTOCOL = 5
_MAX_PARTS = 4
"""The most parts of an unfinished object on the stack: itself, its state, and a key and a value of that."""
_NEW = Placeholder("copyreg", "__newobj__")

_OF_PYTHON_2 = frozenset(IMPORT_MAPPING) | {module for module, _ in NAME_MAPPING}
"""Modules that have other names in Python 3."""
# How a pickle begins that is a dict with a memo slot and has a byte string for its first key.
_FROM_PYTHON_2 = re.compile(rb"(?:\x80\x02)?(?:\}q.\(|\(dp\d+\n)[UTS]", re.DOTALL)

_Kind = TypeVar("_Kind", list[object], dict[object, object])


class Machine:
    """The stack, and what the rarer opcodes do to it.

    Too short a stack raises IndexError, a value that does not fit RecordError; `read` adds the position.
    """

    __slots__ = ("below", "containers_left", "memo", "numbered", "payload", "pos", "stack")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.pos = 0
        self.stack: list[object] = []
        """What is above the last mark."""
        self.below: list[list[object]] = []
        """What is below it, a list for each mark."""
        self.memo: dict[int, object] = {}
        self.containers_left = MAX_CONTAINERS
        self.numbered = False
        """Whether anything depends on how many memo slots there are."""

    def spend(self, containers: int) -> None:
        """Charge so many *containers*. Raises OverBudgetError once they are used up."""
        self.containers_left -= containers
        if self.containers_left < 0:
            raise OverBudgetError(f"more than {MAX_CONTAINERS} containers")

    def step(self, op: int) -> None:  # noqa: C901, PLR0912, PLR0915 - flat: an opcode and what it does
        """Do what *op* says; `pos` is just behind it."""
        self.spend(1)
        stack = self.stack
        if op == MARK:
            if len(self.below) >= MAX_DEPTH:
                raise OverBudgetError(f"more than {MAX_DEPTH} levels")
            self.below.append(stack)
            self.stack = []
        elif op == TUPLE:
            self.unmarked().append(tuple(stack))
        elif op == EMPTY_LIST:
            stack.append([])
        elif op == EMPTY_DICT:
            stack.append({})
        elif op == EMPTY_TUPLE:
            stack.append(())
        elif op == APPENDS:
            self.unmarked()
            self.filled(list).extend(stack)
        elif op == APPEND:
            item = stack.pop()
            self.filled(list).append(item)
        elif op == SETITEM:
            value, key = stack.pop(), stack.pop()
            self.fill([key, value])
        elif op == GLOBAL:
            stack.append(self.named())
        elif op == REDUCE:
            args, called = stack.pop(), stack.pop()
            self.call(called, args)
        elif op == BUILD:
            self.build(stack.pop())
        elif op == OBJ:  # a classic instance of Python 2
            called, *args = stack
            self.unmarked()
            self.call(called, tuple(args))
        elif op == INST:  # the same in protocol 0
            self.unmarked()
            self.call(self.named(), tuple(stack))
        elif op in (NEWOBJ, NEWOBJ_EX):
            keywords = (stack.pop(),) if op == NEWOBJ_EX else ()
            args, cls = stack.pop(), stack.pop()
            if type(args) is not tuple:
                raise RecordError("calls without a tuple")
            self.spend(len(args))
            self.call(_NEW, (cls, *args, *keywords))
        elif op in (TUPLE1, TUPLE2, TUPLE3):
            length = op - TUPLE1 + 1
            if len(stack) < length:
                raise IndexError
            stack[-length:] = [tuple(stack[-length:])]
        elif op == LIST:
            self.unmarked().append(stack)
        elif op == DICT:
            self.unmarked().append({})
            self.fill(stack)
        elif op in (EMPTY_SET, FROZENSET):
            # Never a real set: hashing what a sender chose can hang, or overflow the C stack.
            made = Placeholder("builtins", "set" if op == EMPTY_SET else "frozenset", ())
            made.items = [] if op == EMPTY_SET else stack
            (stack if op == EMPTY_SET else self.unmarked()).append(made)
        elif op == ADDITEMS:
            if type(self.unmarked()[-1]) is not Placeholder:
                raise RecordError("fills no set")
            self.filled(list).extend(stack)
        elif op == POP_MARK or (op == POP and not stack):
            self.unmarked()
        elif op == POP:
            stack.pop()
        elif op == DUP:
            stack.append(stack[-1])
        elif op == STACK_GLOBAL:
            name, module = stack.pop(), stack.pop()
            if type(module) is not str or type(name) is not str:
                raise RecordError("a name that is no text")
            stack.append(Placeholder(module, name))
        elif op == MEMOIZE:
            self.numbered = True
            self.memo[len(self.memo)] = stack[-1]
        elif op == PROTO:
            if self.payload[self.pos] > _MAX_PROTOCOL:
                raise RecordError("a protocol yet unknown")
            self.pos += 1
        elif op == FRAME:
            start = self.pos + 8
            claimed(self.payload, start, start + u64(self.payload, self.pos)[0])
            self.pos = start
        else:
            raise RecordError("unknown or refused")

    def unmarked(self) -> list[object]:
        """Take the last mark away; return the stack below it."""
        self.stack = self.below.pop()
        return self.stack

    def named(self) -> Placeholder:
        """Return what stands for the class or function whose module and name follow."""
        line, self.pos = line_at(self.payload, self.pos)
        module = line.decode()
        line, self.pos = line_at(self.payload, self.pos)
        name = line.decode()
        if module in _OF_PYTHON_2 and not _FROM_PYTHON_2.match(self.payload):
            # Below protocol 3, Python 3 sends these by the names that they have in Python 2.
            module, name = NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name)
        return Placeholder(module, name)

    def call(self, called: object, args: object) -> None:
        """Push what stands for the result of calling *called* with *args*."""
        if type(called) is not Placeholder or type(args) is not tuple:
            raise RecordError("calls no class or function")
        self.spend(1)  # once more: it takes twice as long as making a container
        self.stack.append(rebuild(called, args, self.spend))

    def build(self, state: object) -> None:
        """Give the instance on top its *state*."""
        instance = self.stack[-1]
        if type(instance) is not Placeholder or instance.args is None:
            raise RecordError("gives a state to no instance")  # to a class, as an attack, or to a dict
        instance.state = state

    def filled(self, kind: type[_Kind]) -> _Kind:
        """Return the list or dict that opcodes fill: the value on top, or what a placeholder there holds."""
        top = self.stack[-1]
        if isinstance(top, Placeholder) and top.args is not None:
            if top.items is None:
                top.items = kind()
            top = top.items
        if not isinstance(top, kind):
            raise RecordError(f"fills no {kind.__name__}")
        return top

    def fill(self, items: list[object]) -> None:
        """Put keys and values into the dict on top, or into what a placeholder there holds."""
        held = self.filled(dict)
        if len(items) % 2:
            raise RecordError("a key without a value")
        keys: Iterable[object] = items[::2]
        if not KEY_TYPES.issuperset(map(type, keys)):
            try:
                keys = as_keys(keys, held, self.spend)
            except OverBudgetError:
                _put(held, items)
                raise
        held.update(zip(keys, items[1::2], strict=True))
        self.spend(1)


def salvaged(stack: list[object], below: list[list[object]]) -> object:
    """Return what was under construction when a budget ran out, finished as far as it got."""
    below, stack = _without_secrets([*below, stack])
    while below:
        items, stack = stack, below.pop()
        match stack[-1:]:
            case [dict(top)]:
                _put(top, _folded(items))
            case [list(top)]:
                top.extend(items)
            case [Placeholder(args=None) as called]:
                stack[-1] = Placeholder(called.module, called.name, tuple(items))
            case [Placeholder(items=None) as made]:
                made.items = items
            case _:
                stack.append(tuple(items))
    match _folded(stack):
        case [dict(root), *items]:
            _put(root, items)
            return root
        case [value, *_]:
            return value
    return None


def _without_secrets(levels: list[list[object]]) -> tuple[list[list[object]], list[object]]:
    """Remove what would have become the state or the arguments of an object that masks itself."""
    for number, items in enumerate(levels):
        for at in range(max(len(items) - _MAX_PARTS, 0), len(items)):
            item = items[at]
            if type(item) is tuple and item:  # arguments
                item, at = item[0], at - 1  # noqa: PLW2901 - they go too
            if type(item) is Placeholder and masks_itself(item):
                del items[at + 1 :]
                return levels[:number], items
    return levels[:-1], levels[-1]


def _folded(items: list[object]) -> list[object]:
    """Return keys and values after putting the last value into the containers that seem to wait for it."""
    while True:
        match items[-3:]:
            case [*_, list(waiting), list() | dict() | tuple() | Placeholder() as last]:
                waiting.append(last)
                del items[-1]
            case [dict(waiting), key, list() | dict() | tuple() | Placeholder() as last] if not waiting:
                _put(waiting, [key, last])
                del items[-2:]
            case _:
                return items


def _put(held: dict[object, object], items: list[object]) -> None:
    """Put keys and values into a dict, but for a key without a value and keys that would become text."""
    held.update((key, value) for key, value in zip(items[::2], items[1::2], strict=False) if is_key(key))
