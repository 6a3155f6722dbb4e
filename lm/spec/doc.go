// Package spec holds what is chosen about a model and its training: the kinds of
// model, the structs of settings that package lm reads, and beside their fields
// the declarations of them: key, meaning, range and default. It does not depend on
// libtorch, so that programs that only read settings can import it.
//
// A setting is added by a field and its declaration here, and by the code that
// reads the field. Parsing, checks, recorded settings, help and the reference
// follow from the declaration (package configs).
package spec
