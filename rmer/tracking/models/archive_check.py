"""Exported programs (pt2 archives), checked before torch opens them.

``torch.export.load`` trusts its file: it evaluates the sizes of tensors as Python (sympy), executes the
guards and the code that it generates from the names in the graph, calls whatever function a node names,
imports what a description of inputs names, and unpickles. So everything in an archive must be known to be
harmless; what is not known is refused. Written for torch 2.13, the version that this package is pinned to.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from rmer.errors import UserError

MEND = (
    "Use a model from somebody you trust, made of PyTorch's own operators and logged with "
    "mlflow.pytorch.log_model(..., serialization_format='pt2')"
)
_DAMAGE = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, BadZipFile)
_LONGEST_FORMULA = 20_000

_RECORD = re.compile(
    r"models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)",
    re.ASCII,
)
_NAME = re.compile(r"(?!__)(?!.*\.__)[\w.+:/-]*", re.ASCII)  # of a parameter, say: safe inside quotes
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TEXT = re.compile(r"[^\"'\\\x00-\x1f\x7f-\U0010ffff]*")  # in quotes in generated code
_PAYLOAD = re.compile(r"(weight|tensor)_\d+", re.ASCII)

_ATEN = re.compile(
    r"torch\.ops\.aten\.((?!__)[A-Za-z_]\w*|__(?:and|or|xor|lshift|rshift)__)\.(\w+)", re.ASCII
)
_FILE_OPERATORS = ("from_file", "save")
_SCALAR_OPERATOR = re.compile(
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_|lshift|rshift|getitem)"
    r"|math\.trunc|torch\.sym_(not|int|float|ite|max|min|sqrt)"
)
# Sub-programs, objects of C++ classes, and functions handed to functions.
_FORBIDDEN_KEYS = frozenset({"as_graph", "as_custom_obj", "as_operator", "custom_obj"})
_METADATA_KEYS = frozenset(
    {"stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node", "custom"}
)
_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict")

_SIZE_CHARACTERS = re.compile(r"[\w '(),=.+*/<>&|~%-]*", re.ASCII)
_GUARD_CHARACTERS = re.compile(r"[\w '(),=.+*/<>&|~%!\[\]-]*", re.ASCII)
_SYMBOL = re.compile(r"[a-z]{1,3}\d+|-?\d*\.?\d*(e[+-]?\d+)?", re.ASCII)  # or a number
_SIZE_FUNCTION = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Mod|Abs|floor|ceiling|And|Or|Not|Piecewise"
    r"|ExprCondPair|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan"
    r"|GreaterThan|FloorDiv|ModularIndexing|Where|PythonMod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift"
    r"|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator|TruncToFloat"
    r"|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
)
_GUARD_FUNCTIONS = frozenset({"max", "min", "abs", "round", "int", "float", "bool"})
_GUARD_ATTRIBUTE = re.compile(
    r"math\.(trunc|floor|ceil|sqrt)|torch\.sym_(not|int|float|ite|max|min|sqrt)"
    r"|.+\.(size|stride|storage_offset)"
)
_CONSTANTS = frozenset({"true", "false", "oo"})
_ARITHMETIC = (
    *(ast.Expression, ast.Load, ast.keyword, ast.Tuple, ast.IfExp, ast.Compare, ast.cmpop),
    *(ast.BoolOp, ast.boolop, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop),
)


def check_archive(path: Path) -> None:
    """Raise :class:`UserError` unless opening and running this pt2 file executes nothing that it brings.

    Guaranteed of a file that passes: it holds only records that ``torch.export.save`` writes for one program;
    sizes and guards are arithmetic of symbols; names are plain names; the program calls PyTorch's own (ATen)
    operators, none of which touches files; there are no custom objects, sub-programs or compiled libraries;
    what torch unpickles are tensors and plain containers. Not guaranteed: that the program is what it says
    it is, that it ends, fits into memory, or finds no fault in PyTorch's operators themselves. A damaged file
    is a :class:`UserError`, too.
    """
    try:
        reader = torch._C.PyTorchFileReader(str(path))  # as torch will read it
        records = reader.get_all_records()
        with ZipFile(path) as archive:  # torch's second way of reading it
            members = [name.partition("/")[2] for name in archive.namelist()]
            spoilt = archive.testzip()  # checksums, which torch does not look at
        if spoilt:
            raise damaged(path, f"{spoilt.partition('/')[2]} does not fit its checksum")
        if len(set(records)) < len(records) or sorted(members) != sorted(records):
            raise refused(path, "its list of contents is ambiguous")
        for name in records:
            if not _RECORD.fullmatch(name):
                raise refused(path, f"it contains {name!r}")
            if name.endswith(".json"):
                _check_json(json.loads(reader.get_record(name).decode()), "", path)
        torch.load(io.BytesIO(reader.get_record("data/sample_inputs/model.pt")), weights_only=True)
    except pickle.UnpicklingError as error:
        raise refused(path, "its example input is more than tensors") from error
    except _DAMAGE as error:
        raise damaged(path, type(error).__name__) from error


def damaged(path: Path, reason: str) -> UserError:
    """Return the error for a file that is no whole exported program."""
    mend = "Restore the file, or log the model again"
    return UserError(f"this model file is damaged ({reason})", where=str(path), mend=mend)


def refused(path: Path, reason: str) -> UserError:
    """Return the error for a model that might execute code of its own."""
    return UserError(f"this model could run any code when it is opened: {reason}", where=str(path), mend=MEND)


def _check_json(value: Any, key: str, path: Path) -> None:
    """Check every string below ``value`` by the key that it stands under; most must be plain names.

    A key may also be a name that the archive's author chose, so no key makes what is nested in it pass.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in _FORBIDDEN_KEYS:
                raise refused(path, f"it uses {name!r}")
            if not _NAME.fullmatch(name):
                raise refused(path, f"{name!r} is not a plain name")
            if not (key == "metadata" and name in _METADATA_KEYS and isinstance(inner, str)):
                _check_json(inner, name, path)
    elif isinstance(value, list):
        for inner in value:
            _check_json(inner, key, path)
    elif isinstance(value, str):
        if not _is_harmless(value, key):
            raise refused(path, f"{key} {value[:100]!r}")
    elif key == "use_pickle" and value is not False:
        raise refused(path, "its weights are pickled")


def _is_harmless(text: str, key: str) -> bool:
    if key == "expr_str":
        return _is_formula(text, _SIZE_CHARACTERS, guard=False)
    if key == "guards_code":
        return _is_formula(text, _GUARD_CHARACTERS, guard=True)
    if key == "target":
        return _is_operator(text)
    if key in ("in_spec", "out_spec"):
        protocol, tree = json.loads(text)
        return isinstance(protocol, int) and _is_plain_tree(tree, _IDENTIFIER if key == "in_spec" else _NAME)
    if key in ("name", "as_name", "forward_arg_names"):
        return text == "" or bool(_IDENTIFIER.fullmatch(text))
    if key == "path_name":
        return bool(_PAYLOAD.fullmatch(text))
    return bool((_TEXT if key in ("as_string", "as_strings") else _NAME).fullmatch(text))


def _is_operator(target: str) -> bool:
    aten = _ATEN.fullmatch(target)
    if aten is None:
        return bool(_SCALAR_OPERATOR.fullmatch(target))
    operator = getattr(getattr(torch.ops.aten, aten[1], None), aten[2], None)
    return isinstance(operator, torch._ops.OpOverload) and aten[1] not in _FILE_OPERATORS


def _is_plain_tree(tree: Any, names: re.Pattern[str]) -> bool:
    """Tell whether a description of inputs or outputs has only tuples, lists and dicts with plain keys."""
    if tree["type"] is None:
        return tree["context"] is None and tree["children_spec"] == []
    context = json.loads(tree["context"])
    keys = [] if context is None else context
    return (
        tree["type"] in _CONTAINERS
        and isinstance(keys, list)
        and all(isinstance(key, str) and names.fullmatch(key) for key in keys)
        and all(_is_plain_tree(child, names) for child in tree["children_spec"])
    )


def _is_formula(text: str, characters: re.Pattern[str], *, guard: bool) -> bool:
    if len(text) > _LONGEST_FORMULA or not characters.fullmatch(text):
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, MemoryError):
        return False
    return all((_in_guard if guard else _in_size)(node) for node in nodes)


def _in_size(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and bool(_SIZE_FUNCTION.fullmatch(node.func.id))
    if isinstance(node, ast.Name):
        known = _SIZE_FUNCTION.fullmatch(node.id) or _SYMBOL.fullmatch(node.id)
        return bool(known) or node.id in _CONSTANTS
    return _is_constant(node, _SYMBOL) or isinstance(node, _ARITHMETIC)


def _in_guard(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) or (
            isinstance(node.func, ast.Name) and node.func.id in _GUARD_FUNCTIONS
        )
    if isinstance(node, ast.Attribute):
        return bool(_GUARD_ATTRIBUTE.fullmatch(ast.unparse(node)))
    if isinstance(node, ast.Name):
        return node.id in _GUARD_FUNCTIONS or node.id in ("L", "math", "torch")
    return _is_constant(node, _IDENTIFIER) or isinstance(node, (ast.Subscript, *_ARITHMETIC))


def _is_constant(node: ast.AST, texts: re.Pattern[str]) -> bool:
    if not isinstance(node, ast.Constant):
        return False
    value = node.value
    if isinstance(value, str):
        return bool(texts.fullmatch(value))
    return value is None or isinstance(value, (bool, int, float))
