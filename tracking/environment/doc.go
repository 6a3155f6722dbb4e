// Package environment gathers the facts about a run's environment for its record:
// the process, the host and its processor, and the state of the git checkout.
//
// No function here fails: an unavailable fact is empty.
package environment
