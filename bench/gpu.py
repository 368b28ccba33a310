"""What the GPU kernels cost: their times on a GPU, and their binaries' registers anywhere.

    python bench/gpu.py [--json FILE]              times; needs CUDA, takes a few minutes
    python bench/gpu.py --compile [--json FILE]    registers, shared memory, spills; needs no GPU

A time is the median of calls of which each finds the device's cache flushed, as a model's layers
find it; what the host takes to start a call is not in it and is told beside it. It is set against
the naive twin in the same run, and a product against torch's product with the dense float16 weight
as well. Each row also tells how far the kernel's answer is from the twin's.

What is compiled is what would be launched: the launchers plan on tensors without storage, for a GPU
of any architecture that Triton's compiler knows.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from quantcore import files, machine
from quantcore.kernels import naive

HALF, FULL = torch.float16, torch.float32
LAYER = (4096, 4096)
TOKENS = (1, 4, 16, 64, 256)
CALLS = 20  # of one measurement on the host
# books, size, group, type of the codes, type of the weights
SCHEMES = (
    (2, 256, 8, torch.int8, HALF),
    (1, 65536, 8, torch.int16, HALF),
    (1, 65536, 16, torch.int16, HALF),
    (4, 256, 4, torch.int8, torch.bfloat16),
    (3, 1024, 12, torch.int32, HALF),
    (2, 256, 8, torch.int32, FULL),
    (2, 256, 32, torch.int8, HALF),
)
ASSIGNMENTS = ((256, 4), (256, 8), (4096, 8), (65536, 8), (256, 16), (256, 32))
# size, group, beam, rows
SEARCHES = (
    (256, 8, 1, 4096),
    (256, 8, 8, 4096),
    (256, 4, 32, 4096),
    (65536, 8, 8, 64),
    (65536, 16, 32, 8),
    (256, 32, 64, 64),
)
ARCHITECTURES = (80, 90, 100)  # and the newest that the compiler knows
PROCESSORS = 132  # of the GPU that --compile plans for
POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


def kernel(name):
    """A module of kernels: not imported before it is needed, for Triton may be absent."""
    return import_module(f"quantcore.kernels.{name}_triton")


# Times


def device_time(work):
    """Median seconds of a call on the device, its cache flushed before each."""
    from triton.testing import do_bench

    return do_bench(work, warmup=10, rep=100, return_mode="median") / 1e3


def host_time(work):
    """Seconds that a call takes one after the other, the host's part included."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        for _ in range(CALLS):
            work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - begun) / CALLS)
    return min(seconds)


def compared(what, fast, others, clock):
    """A row for every other way of doing the same; `fast` is run first, which compiles it."""
    fast()
    seconds, called = clock(fast), host_time(fast)
    return [
        {**what, "against": against, "ms": 1e3 * seconds, "ratio": seconds / clock(other)}
        | {"called_ms": 1e3 * called}
        for against, other in others.items()
    ]


def distance(found, wanted):
    """Relative root mean square of the difference."""
    wanted = wanted.double()
    return float((found.double() - wanted).norm() / wanted.norm())


def differing(found, wanted):
    """Share of the entries that differ."""
    return float((found != wanted).double().mean())


def time_assignment(layer, case, device, clock):
    """The E-step of a layer."""
    (out, columns), (size, group) = layer, case
    rng = torch.Generator(device).manual_seed(0)
    vectors = torch.randn(out, columns // group, group, generator=rng, device=device)
    mix = torch.randn(columns // group, group, 2 * group, generator=rng, device=device)
    metrics = mix @ mix.mT / (2 * group)
    codebook = torch.randn(size, group, generator=rng, device=device)
    inputs = vectors, metrics, codebook
    codes, wanted = kernel("assign").assign(*inputs)[0], naive.assign(*inputs)[0]
    what = {"kernel": "assign", "case": f"{out}x{columns}, {size} words g{group}"}
    what["difference"] = differing(codes, wanted)
    others = {"naive": lambda: naive.assign(*inputs)}
    return compared(what, lambda: kernel("assign").assign(*inputs), others, clock)


def time_search(case, device, clock):
    """One visit of the beam search."""
    size, group, beam, rows = case
    rng = torch.Generator(device).manual_seed(0)
    targets = torch.randn(rows, beam, group, generator=rng, device=device)
    base = torch.rand(rows, beam, generator=rng, device=device)
    codebook = torch.randn(size, group, generator=rng, device=device)
    inputs = targets, base, codebook, codebook.square().sum(1), beam
    found, wanted = kernel("best").best(*inputs)[1], naive.best(*inputs)[1]
    what = {"kernel": "best", "case": f"{rows} rows, beam {beam}, {size} words g{group}"}
    what["difference"] = differing(found, wanted)
    others = {"naive": lambda: naive.best(*inputs)}
    return compared(what, lambda: kernel("best").best(*inputs), others, clock)


def time_products(layer, scheme, tokens, device, clock):
    """Decoding a layer, and its product with each number of tokens."""
    (out, columns), (books, size, group, code, dtype) = layer, scheme
    rng = torch.Generator(device).manual_seed(0)
    shape = out, columns // group, books
    codes = torch.randint(size, shape, generator=rng, device=device).to(code)
    codebooks = torch.randn(books, size, group, generator=rng, device=device).to(dtype)
    scales = torch.rand(out, generator=rng, device=device).to(dtype)
    weight = codes, codebooks, scales
    exact = naive.decode(codes, codebooks.float(), scales.float())
    dense = exact.to(HALF if device.type == "cuda" else FULL)
    case = f"{out}x{columns // group * group}, {scheme_name(scheme)}"
    what = {"kernel": "decode", "case": case}
    what["difference"] = distance(kernel("decode").decode(*weight), exact)
    others = {"naive": lambda: naive.decode(*weight)}
    rows = compared(what, lambda: kernel("decode").decode(*weight), others, clock)
    for count in tokens:
        x = torch.randn(count, columns // group * group, generator=rng, device=device).to(dtype)
        left = x.to(dense.dtype)
        found = kernel("matmul").matmul(x, *weight)
        what = {"kernel": "matmul", "case": f"{case}, {count} tokens"}
        what["difference"] = distance(found, x.float() @ exact.T)
        others = {
            "naive": lambda x=x: naive.matmul(x, *weight),
            "dense float16": lambda left=left: left @ dense.T,
        }
        rows += compared(what, lambda x=x: kernel("matmul").matmul(x, *weight), others, clock)
    return rows


def measure(device):
    """Rows of times of all kernels."""
    rows = []
    for case in ASSIGNMENTS:
        rows += time_assignment(LAYER, case, device, device_time)
    for case in SEARCHES:
        rows += time_search(case, device, device_time)
    for scheme in SCHEMES:
        rows += time_products(LAYER, scheme, TOKENS, device, device_time)
    return rows


# Binaries


def empty(*shape, dtype=FULL):
    """A tensor that only has a shape."""
    return torch.empty(*shape, dtype=dtype, device="meta")


def scheme_name(scheme):
    """A scheme in words."""
    books, size, group, code, dtype = scheme
    return f"{books}x{size} g{group}, {POINTERS[code][1:]}, {POINTERS[dtype][1:]}"


def launches(arch):
    """What is launched on an architecture: a case in words, and a launch."""
    device = import_module("quantcore.kernels.launch").Device(arch, PROCESSORS)
    for size, group in ASSIGNMENTS:
        groups = LAYER[1] // group
        inputs = empty(LAYER[0], groups, group), empty(groups, group, group), empty(size, group)
        for one in kernel("assign").plan(*inputs, device)[0]:
            yield f"{size} words g{group}", one
    for size, group, beam, rows in SEARCHES:
        inputs = empty(rows, beam, group), empty(rows, beam), empty(size, group), empty(size)
        for one in kernel("best").plan(*inputs, beam, device)[0]:
            yield f"{size} words g{group}, beam {beam}", one
    for scheme in SCHEMES:
        books, size, group, code, dtype = scheme
        codes = empty(LAYER[0], LAYER[1] // group, books, dtype=code)
        weight = codes, empty(books, size, group, dtype=dtype), empty(LAYER[0], dtype=dtype)
        yield scheme_name(scheme), kernel("decode").plan(*weight, device)[0][0]
        for tokens in (1, 16, 64):
            x = empty(tokens, codes.shape[1] * group, dtype=dtype)
            one = kernel("matmul").plan(x, *weight, device)[0][0]
            yield f"{scheme_name(scheme)}, {tokens} tokens", one


def source(one):
    """What the launcher would compile a kernel for: types, constants, and what divides by 16."""
    signature, constants, hints = {}, dict(one.constants), {}
    for place, name in enumerate(one.kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            continue
        value = one.args[place]
        tensor = isinstance(value, torch.Tensor)
        signature[name] = POINTERS[value.dtype] if tensor else "i32"
        if tensor or value % 16 == 0:
            hints[place,] = [["tt.divisibility", 16]]
        elif value == 1:
            signature[name], constants[name] = "constexpr", 1
    return signature, constants, hints


def compiled(one, arch, **options):
    """The binary that a launch would start on an architecture."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    setting = {"num_warps": one.setting.warps, "num_stages": one.setting.stages}
    return triton.compile(
        ASTSource(one.kernel, *source(one)),
        target=GPUTarget("cuda", arch, 32),
        options={**setting, "enable_fp_fusion": True, **options},
    )


def told_by(tool, *arguments):
    """What one of the programs that Triton brings along prints."""
    folder = Path(import_module("triton").__file__).parent / "backends" / "nvidia" / "bin"
    command = [folder / tool, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def usage(binary):
    """Registers a thread, bytes of shared memory, and bytes of stack, where spills go."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(binary.asm["cubin"])
        told = told_by("cuobjdump", "--dump-resource-usage", file)
    number = {key: int(re.search(rf"\b{key}:(\d+)", told)[1]) for key in ("REG", "STACK", "LOCAL")}
    return {
        "registers": number["REG"],
        "shared_bytes": binary.metadata.shared,
        "spill_bytes": number["STACK"] + number["LOCAL"],
    }


def newest():
    """The newest architecture that the compiler knows, by its number."""
    told = told_by("ptxas-blackwell", "--help")
    return max(int(number) for number in re.findall(r"\bsm_(\d+)", told))


def binaries(architectures):
    """Rows of (kernel, case, architecture, setting, registers, shared memory, spills).

    Cases that need the same binary share a row, under the first one's name.
    """
    found = {}
    for arch in architectures:
        for case, one in launches(arch):
            found.setdefault(str((arch, one.kernel, source(one), one.setting)), (arch, case, one))

    def row(work):
        arch, case, one = work
        what = {"kernel": one.kernel.__name__.strip("_"), "case": case, "arch": arch}
        return {**what, **asdict(one.setting), **usage(compiled(one, arch))}

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(row, found.values()))


def show(rows):
    """Print rows as a table."""
    table = Table(*rows[0])
    for row in rows:
        cells = row.values()
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console(width=150).print(table)


def main():
    """Measure or compile, print, write; 2 if that cannot be done here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="read the binaries; needs no GPU")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not args.compile and not torch.cuda.is_available():
        sys.stderr.write("bench/gpu.py times CUDA kernels and this machine has no CUDA device.\n")
        return 2
    begun = time.monotonic()
    cuda = torch.device("cuda")
    rows = binaries((*ARCHITECTURES, newest())) if args.compile else measure(cuda)
    show(rows)
    if args.json:
        command = f"python bench/gpu.py{' --compile' * args.compile}"
        facts = {"command": command, "machine": machine.describe(), "versions": machine.versions()}
        facts["triton"] = import_module("triton").__version__
        facts["seconds"] = round(time.monotonic() - begun)
        files.write_json(args.json, {**facts, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
