// Package endtoend tests koala-lm as it is used: the two built programs, real
// text, a store, runs and their checkpoints. It contains only tests.
package endtoend
