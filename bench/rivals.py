# SPDX-License-Identifier: MPL-2.0
"""The rivals of `bench`: PyTorch, ONNX Runtime and ncnn on the same shapes, weights and inputs.

Reads a case per line, as words, and answers each with a line of JSON: {"ms": ...} for a timed run (the first run of a
case also sets it up and runs it once untimed), {"probe": [...]} for a line that begins with "probe" (some values of the
result, to compare), or {"missing": "why"}. The first line of output tells the versions.

    gemm TYPE ROWS INPUTS OUTPUTS linear|out     attention TYPE TOKENS
    block TYPE TOKENS                            conv3d TYPE planes|last
    srvgg32 torch TYPE planes|last | srvgg32 onnxruntime f32 | srvgg32 ncnn f32|bf16
"""

import importlib
import json
import os
import sys
import time

import numpy as np

PROBES = 257
THREADS = int(os.environ.get("BENCH_THREADS", os.cpu_count() or 1))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))


class Missing(Exception):
    pass


def load(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Missing(f"{name} is not installed") from None


def values(seed, shape, size=1.0):
    """Numbers in -size..size that `data.rs` makes too."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint32)
    h = index * np.uint32(2654435761) + np.uint32(seed * 40503 % 2**32)
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    unit = (h >> np.uint32(8)).astype(np.float32) / np.float32(2**23) - np.float32(1)
    return (unit * np.float32(size)).reshape(shape)


def torch():
    module = load("torch")
    module.set_num_threads(THREADS)
    module.set_grad_enabled(False)
    return module


def tensor(seed, shape, size=1.0, kind="f32"):
    t = torch()
    made = t.from_numpy(values(seed, shape, size))
    return made.bfloat16() if kind == "bf16" else made


def gemm(kind, rows, inputs, outputs, way):
    t = torch()
    rows, inputs, outputs = int(rows), int(inputs), int(outputs)
    x = tensor(1, (rows, inputs), 1, kind)
    weight = tensor(2, (outputs, inputs), inputs**-0.5, kind)
    bias = tensor(3, (outputs,), 1, kind)
    if way == "linear":
        return lambda: t.nn.functional.linear(x, weight, bias)
    turned, out = weight.t(), t.empty(rows, outputs, dtype=x.dtype)
    return lambda: t.addmm(bias, x, turned, out=out)


def attention(kind, tokens):
    t = torch()
    q, k, v = (tensor(seed, (1, 30, int(tokens), 64), 2, kind) for seed in (1, 2, 3))
    # [tokens, heads * 64], as the next layer wants it.
    run = t.nn.functional.scaled_dot_product_attention
    return lambda: run(q, k, v).transpose(1, 2).reshape(int(tokens), 1920)


GRIDS = {2000: (2, 1, 887), 8000: (13, 26, 23)}


def block(kind, tokens):
    """A Stage II block, as `Block` computes it: 226 text tokens, then the image."""
    t = torch()
    F, d, text, tokens = t.nn.functional, 1920, 226, int(tokens)
    made = lambda seed, shape, size: tensor(seed, shape, size, kind)
    layer = lambda seed, outputs, inputs: (
        made(seed, (outputs, inputs), inputs**-0.5),
        made(seed + 1, (outputs,), 0.1),
    )
    ada, qkv, dense = layer(10, 12 * d, 512), layer(20, 3 * d, d), layer(30, d, d)
    up, down = layer(40, 4 * d, d), layer(50, d, 4 * d)
    norm = lambda seed, size: (made(seed, (size,), 0.5) + 1, made(seed + 1, (size,), 0.1))
    norm1, norm2, q_norm, k_norm = norm(60, d), norm(70, d), norm(80, 64), norm(90, 64)
    rows, embedding = made(1, (tokens, d), 1), made(2, (1, 512), 1)
    frames, height, width = GRIDS[tokens]
    axes = []
    for positions, features in ((frames, 16), (height, 24), (width, 24)):
        frequency = 1.0 / 10000 ** (t.arange(0, features, 2).float() / features)
        axes.append(t.outer(t.arange(positions).float(), frequency))
    angles = t.cat(
        [
            axes[0][:, None, None].expand(frames, height, width, -1),
            axes[1][None, :, None].expand(frames, height, width, -1),
            axes[2][None, None, :].expand(frames, height, width, -1),
        ],
        -1,
    ).reshape(tokens - text, 32)
    cos, sin = (f(angles).repeat_interleave(2, 1).to(rows.dtype) for f in (t.cos, t.sin))

    def rotate(x):
        image = x[:, :, text:]
        a, b = image.unflatten(-1, (32, 2)).unbind(-1)
        turned = image * cos + t.stack([-b, a], -1).flatten(-2) * sin
        return t.cat([x[:, :, :text], turned], 2)

    def modulated(x, norm, image, words):
        y = F.layer_norm(x, (d,), *norm, 1e-5)
        return t.cat([y[:text] * (1 + words[1]) + words[0], y[text:] * (1 + image[1]) + image[0]])

    def gated(x, y, image, words):
        return t.cat([x[:text] + words[2] * y[:text], x[text:] + image[2] * y[text:]])

    def run():
        m = F.linear(F.silu(embedding), *ada).chunk(12, 1)
        y = modulated(rows, norm1, m[0:3], m[6:9])
        q, k, v = F.linear(y, *qkv).view(1, tokens, 3, 30, 64).permute(2, 0, 3, 1, 4)
        q = rotate(F.layer_norm(q, (64,), *q_norm, 1e-6))
        k = rotate(F.layer_norm(k, (64,), *k_norm, 1e-6))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(tokens, d)
        x = gated(rows, F.linear(y, *dense), m[0:3], m[6:9])
        y = modulated(x, norm2, m[3:6], m[9:12])
        y = F.linear(F.gelu(F.linear(y, *up), approximate="tanh"), *down)
        return gated(x, y, m[3:6], m[9:12])

    return run


def conv3d(kind, layout):
    t = torch()
    x = tensor(1, (11, 128, 68, 120), 1, kind).transpose(0, 1).unsqueeze(0)
    weight = tensor(2, (128, 128, 3, 3, 3), (128 * 27) ** -0.5, kind)
    bias = tensor(3, (128,), 1, kind)
    form = t.channels_last_3d if layout == "last" else t.contiguous_format
    x, weight = x.contiguous(memory_format=form), weight.contiguous(memory_format=form)
    return lambda: t.nn.functional.conv3d(x, weight, bias, 1, (0, 1, 1))[0].transpose(0, 1)


def srvgg_layers():
    shapes = [(32, 3)] + [(32, 32)] * 8 + [(48, 32)]
    for index, (outputs, inputs) in enumerate(shapes):
        size = (inputs * 9) ** -0.5
        yield (
            values(10 * index, (outputs, inputs, 3, 3), size),
            values(10 * index + 1, (outputs,), 0.1),
            None if index == 9 else np.abs(values(10 * index + 2, (outputs,), 0.5)),
        )


PICTURE = (1, 3, 270, 480)


def srvgg32(library, kind, layout="planes"):
    return {"torch": srvgg_torch, "onnxruntime": srvgg_onnxruntime, "ncnn": srvgg_ncnn}[library](kind, layout)


def srvgg_torch(kind, layout):
    t = torch()
    net = t.nn.Sequential()
    for weight, bias, slope in srvgg_layers():
        conv = t.nn.Conv2d(weight.shape[1], weight.shape[0], 3, 1, 1)
        conv.weight.copy_(t.from_numpy(weight))
        conv.bias.copy_(t.from_numpy(bias))
        net.append(conv)
        if slope is not None:
            net.append(t.nn.PReLU(len(slope)))
            net[-1].weight.copy_(t.from_numpy(slope))
    net.append(t.nn.PixelShuffle(4))
    form = t.channels_last if layout == "last" else t.contiguous_format
    net = net.to(dtype=t.bfloat16 if kind == "bf16" else t.float32, memory_format=form).eval()
    x = tensor(1, PICTURE, 1, kind).contiguous(memory_format=form)
    return lambda: net(x)


def srvgg_onnxruntime(_kind, _layout):
    runtime, onnx = load("onnxruntime"), load("onnx")
    helper, wrap = onnx.helper, onnx.numpy_helper.from_array
    nodes, weights, current = [], [], "x"
    for index, (weight, bias, slope) in enumerate(srvgg_layers()):
        weights += [wrap(weight, f"w{index}"), wrap(bias, f"b{index}")]
        to = f"c{index}"
        inputs = [current, f"w{index}", f"b{index}"]
        nodes.append(helper.make_node("Conv", inputs, [to], pads=[1] * 4, kernel_shape=[3, 3]))
        current = to
        if slope is not None:
            weights.append(wrap(slope.reshape(-1, 1, 1), f"a{index}"))
            nodes.append(helper.make_node("PRelu", [current, f"a{index}"], [f"p{index}"]))
            current = f"p{index}"
    nodes.append(helper.make_node("DepthToSpace", [current], ["y"], blocksize=4, mode="CRD"))
    info = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "srvgg", [info("x", PICTURE)], [info("y", None)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    options = runtime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = values(1, PICTURE)
    return lambda: session.run(None, {"x": x})[0]


def srvgg_ncnn(kind, _layout):
    ncnn = load("ncnn")
    lines, blob, current = ["Input x 0 1 x"], b"", "x"
    for index, (weight, bias, slope) in enumerate(srvgg_layers()):
        count = len(bias)
        lines.append(f"Convolution c{index} 1 1 {current} c{index} 0={count} 1=3 4=1 5=1 6={weight.size}")
        blob += b"\0\0\0\0" + weight.astype("<f4").tobytes() + bias.astype("<f4").tobytes()
        current = f"c{index}"
        if slope is not None:
            lines.append(f"PReLU p{index} 1 1 {current} p{index} 0={count}")
            blob += slope.astype("<f4").tobytes()
            current = f"p{index}"
    lines.append(f"PixelShuffle y 1 1 {current} y 0=4")
    import tempfile

    net = ncnn.Net()
    net.opt.num_threads = THREADS
    net.opt.use_vulkan_compute = False
    net.opt.use_bf16_storage = kind == "bf16"
    with tempfile.TemporaryDirectory() as folder:
        param, binary = os.path.join(folder, "net.param"), os.path.join(folder, "net.bin")
        with open(param, "w") as file:
            file.write(f"7767517\n{len(lines)} {len(lines)}\n" + "\n".join(lines) + "\n")
        with open(binary, "wb") as file:
            file.write(blob)
        net.load_param(param)
        net.load_model(binary)
    x = ncnn.Mat(values(1, PICTURE)[0])

    def run():
        extractor = net.create_extractor()
        extractor.input("x", x)
        return np.array(extractor.extract("y")[1])[None]

    return run


def probe(result):
    flat = result if isinstance(result, np.ndarray) else result.float().contiguous().numpy()
    flat = flat.reshape(-1)
    return [float(flat[i * (flat.size - 1) // (PROBES - 1)]) for i in range(PROBES)]


def versions():
    found = {}
    for name in ("torch", "onnxruntime", "ncnn"):
        try:
            found[name] = load(name).__version__
        except Missing:
            found[name] = None
    return found


def main():
    answer = lambda value: print(json.dumps(value), flush=True)
    answer({"versions": versions()})
    family, ready = None, {}
    for line in sys.stdin:
        words = line.split()
        wanted = words[0] == "probe"
        case = tuple(words[wanted:])
        try:
            if case[0] != family:
                # What other cases hold would only be in the way.
                family, ready = case[0], {}
            if case not in ready:
                ready[case] = {"gemm": gemm, "attention": attention, "block": block, "conv3d": conv3d, "srvgg32": srvgg32}[
                    case[0]
                ](*case[1:])
                ready[case]()
            start = time.perf_counter()
            result = ready[case]()
            ms = (time.perf_counter() - start) * 1e3
            answer({"probe": probe(result)} if wanted else {"ms": ms})
        except Missing as why:
            answer({"missing": str(why)})
        except Exception as error:  # one case must not end the others
            answer({"missing": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
