// Package safetensors reads and writes the safetensors format: named tensors in
// one file that holds nothing but data, so that opening one runs no code.
//
// A file is the length of its header (8 bytes, little-endian), the header, and
// the tensors' bytes, little-endian and row-major, one after another. The header
// is a JSON object: each tensor's type, shape and place, and under __metadata__ a
// map of strings.
//
// The checks are those of the reference implementation
// (https://github.com/huggingface/safetensors), and one more: a name that comes
// twice is refused. Neither direction ever holds more than the header in memory.
package safetensors
