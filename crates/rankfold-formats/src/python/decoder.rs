//! How a module reads its weights.

/// The parts of a module's text that depend on how its weights are stored.
pub(super) struct Weights {
    /// Imports from Python's own library.
    pub(super) standard: &'static str,
    /// Imports from that of safetensors.
    pub(super) imports: &'static str,
    /// A function that decodes, where that is needed.
    pub(super) decoder: &'static str,
    /// The function that returns the weights of a file.
    pub(super) reader: &'static str,
}

/// All as plain numbers.
pub(super) const PLAIN: Weights = Weights {
    standard: "",
    imports: "from safetensors.torch import load_file",
    decoder: "",
    reader: "load_file",
};

/// Some as codes.
pub(super) const CODED: Weights = Weights {
    standard: "import base64\nimport json\nimport zlib\n",
    imports: "from safetensors import safe_open",
    decoder: r#"
def decoded(path):
    """The weights, those that are stored as 8-bit numbers or as places in a code book turned into floats."""
    with safe_open(path, "pt") as file:
        description = zlib.decompress(base64.b64decode(file.metadata()["rankfold"]))
        weights = {name: file.get_tensor(name) for name in file.keys()}
    for name, how in json.loads(description)["codes"].items():
        stored, shape = weights[name], torch.Size(how["shape"])
        if how["code"] == "int8":
            kind = {"bf16": torch.bfloat16, "f32": torch.float32}[how["scales"]]
            around = [-1 if axis == how["axis"] else 1 for axis in range(len(shape))]
            end = shape[how["axis"]] * kind.itemsize
            scales = stored[:end].clone().view(kind).float().reshape(around)
            weights[name] = stored[end:].view(torch.int8).reshape(shape).float() * scales
        else:
            end, width = 4 * how["values"], max(1, (how["values"] - 1).bit_length())
            bits = (stored[end:, None] >> torch.arange(8)) & 1
            places = bits.flatten()[: shape.numel() * width].reshape(-1, width).long()
            places = (places << torch.arange(width)).sum(1)
            weights[name] = stored[:end].clone().view(torch.float32)[places].reshape(shape)
    return weights

"#,
    reader: "decoded",
};
