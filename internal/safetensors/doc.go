// Package safetensors reads and writes the safetensors format: named tensors in
// one file of pure data. Opening a file runs no code.
//
// A file is the length of its header (8 bytes, little-endian), the header, and
// the tensors' bytes, little-endian and row-major, one after another. The header
// is a JSON object with each tensor's type, shape and offsets, and with a map of
// strings as __metadata__.
//
// The package makes the same checks as the reference implementation
// (https://github.com/huggingface/safetensors), and one more: a duplicate name is
// an error. Reading and writing hold only the header in memory.
package safetensors
