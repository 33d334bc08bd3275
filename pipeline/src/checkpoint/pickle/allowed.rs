// SPDX-License-Identifier: MPL-2.0
//! Which classes a file may name.

/// Names that trainers leave in their checkpoints. None of them is ever looked up or run here; anything else in a file
/// that claims to hold weights is a sign of an attack on other readers, and refused.
pub(super) fn is_allowed(module: &str, name: &str) -> bool {
    let package = module.split('.').next().unwrap_or_default();
    match package {
        "torch" => matches!(
            module,
            "torch"
                | "torch._utils"
                | "torch.nn.parameter"
                | "torch.serialization"
                | "torch.storage"
        ),
        "collections" => matches!(name, "OrderedDict" | "defaultdict" | "Counter" | "deque"),
        "builtins" | "__builtin__" => matches!(
            name,
            "set"
                | "frozenset"
                | "int"
                | "float"
                | "bool"
                | "str"
                | "list"
                | "dict"
                | "tuple"
                | "complex"
                | "slice"
                | "range"
                | "bytearray"
                | "object"
                | "long"
        ),
        "_codecs" => name == "encode",
        "copyreg" | "copy_reg" => name == "_reconstructor",
        "argparse" => name == "Namespace",
        "numpy" => matches!(name, "scalar" | "dtype" | "ndarray" | "_reconstruct"),
        "deepspeed" | "omegaconf" | "sat" | "sgm" => true,
        _ => false,
    }
}
