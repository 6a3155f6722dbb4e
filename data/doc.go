// Package data reads prepared token files and cuts them into batches.
//
// A dataset is a folder. dataset.json describes it, tokenizer.json is its
// tokenizer, and train.bin, valid.bin and test.bin hold nothing but ids,
// little-endian. train.starts, valid.starts and test.starts have the positions at
// which documents start. Open checks all of it. Splits are read through memory maps,
// and a Batcher cuts them into batches.
//
// The packages below make such a folder from text: corpus finds and reads text,
// tokenizer turns it into ids, and prepare combines the two.
package data
