// Programs of a model with a few hundred weights.
#pragma once

namespace ocelli {
namespace test {

// Embeddings, pictures merged in, one layer of attention, a head.
const char* const kText = R"({
  "name": "text", "symbols": ["T", "S", "F"],
  "values": [
    {"kind": "input", "dtype": "i32", "shape": [{"terms": [{"sym": "T"}]}]},
    {"kind": "input", "dtype": "act", "shape": [{"terms": [{"sym": "F"}]}, 8]},
    {"kind": "input", "dtype": "i32", "shape": [{"terms": [{"sym": "F"}]}]},
    {"kind": "input", "dtype": "i32", "shape": [{"terms": [{"sym": "S"}]}]},
    {"kind": "weight", "dtype": "act", "shape": [32, 8]},
    {"kind": "weight", "dtype": "act", "shape": [32, 8]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "T"}]}, 8]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "T"}]}, 8]},
    {"kind": "reshape", "dtype": "act", "shape": [{"terms": [{"sym": "T"}]}, 2, 4], "of": 7},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "T"}]}, 2, 4]},
    {"kind": "reshape", "dtype": "act", "shape": [{"terms": [{"sym": "T"}]}, 8], "of": 9},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "T"}]}, 8]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "S"}]}, 8]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "S"}]}, 32]}
  ],
  "inputs": [
    {"name": "inputIds", "kind": "tokens", "value": 0}, {"name": "features", "kind": "data", "value": 1},
    {"name": "featureRows", "kind": "rowIndex", "value": 2}, {"name": "sampleRows", "kind": "rowIndex", "value": 3}
  ],
  "weights": [{"name": "embed", "shape": [32, 8], "value": 4}, {"name": "head", "shape": [32, 8], "linear": true, "value": 5}],
  "ops": [
    {"op": "gather_rows", "in": [4, 0], "out": [6], "path": "embed"},
    {"op": "scatter_rows", "in": [6, 2, 1], "out": [7], "path": ""},
    {"op": "kv_store", "in": [8, 8], "out": [], "attrs": {"layer": 0}, "path": "attn"},
    {"op": "attention_paged", "in": [8], "out": [9], "attrs": {"layer": 0, "scale": 20}, "path": "attn"},
    {"op": "add", "in": [7, 10], "out": [11], "path": ""},
    {"op": "gather_rows", "in": [11, 3], "out": [12], "path": ""},
    {"op": "linear", "in": [12, 5, null], "out": [13], "path": "head"}
  ],
  "outputs": {"logits": 13}, "taps": {}
})";

const char* const kEncoder = R"({
  "name": "encoder", "symbols": ["N"],
  "values": [
    {"kind": "input", "dtype": "act", "shape": [{"terms": [{"sym": "N"}]}, 8]},
    {"kind": "weight", "dtype": "act", "shape": [8, 8]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N"}]}, 8]}
  ],
  "inputs": [{"name": "pixels", "kind": "data", "value": 0}],
  "weights": [{"name": "projector", "shape": [8, 8], "linear": true, "value": 1}],
  "ops": [{"op": "linear", "in": [0, 1, null], "out": [2], "path": "projector"}],
  "outputs": {"features": 2}, "taps": {}
})";

}  // namespace test
}  // namespace ocelli
