"""What torch takes for the products and the attention of `timings`, in the same shapes: for `npm run gpu-check`, where it is installed.

`--found` only tells, by the exit status, whether torch and a GPU are there.
"""

import json
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit(1)
if not torch.cuda.is_available():
    sys.exit(1)
if "--found" in sys.argv:
    sys.exit(0)

WIDTH, ROWS, HEADS, KV_HEADS, DIM, POSITIONS, SEQUENCES = 4096, 2048, 32, 8, 128, 2048, 16
COPIES = 8  # of what is read from memory, so that no cache holds it


def normal(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def measure(name, run):
    """Prints the median of ten turns of 40 launches."""
    for i in range(COPIES):
        run(i)
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for i in range(40):
            run(i % COPIES)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / 40)
    print(json.dumps({"name": name, "us": round(sorted(times)[5] * 1e6, 3)}))


weights = [normal(WIDTH, WIDTH) for _ in range(COPIES)]
for rows in (1, 16, ROWS):
    x = normal(rows, WIDTH)
    measure(f"linear bf16, {rows} rows", lambda i: F.linear(x, weights[i]))
for sequences, rows in ((1, 1), (SEQUENCES, 1), (1, POSITIONS)):
    q = normal(sequences, HEADS, rows, DIM)
    caches = [normal(2, sequences, KV_HEADS, POSITIONS, DIM) for _ in range(COPIES)]
    causal = rows > 1
    measure(
        f"attention, {sequences} x {rows} rows of {POSITIONS} positions",
        lambda i: F.scaled_dot_product_attention(q, caches[i][0], caches[i][1], is_causal=causal, enable_gqa=True),
    )
print(f"torch {torch.__version__}: 0 kernels, 6 instances, 6 checks, 0 failed")
