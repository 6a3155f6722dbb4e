// Package spec holds the kinds of model and the settings of a model and its
// training: the structs that package lm reads, with a declaration of each field:
// key, meaning, range and default. It does not depend on libtorch, so that programs
// that only read settings can import it.
//
// To add a setting, add a field and its declaration here, and the code that reads
// the field. Parsing, checks, recorded settings, help and the reference follow from
// the declaration (package configs).
package spec
