// Package environment gathers what a run's record needs to know of its
// surroundings: the process, the host and its processor, the state of the git
// checkout it was started from.
//
// Nothing here fails: a fact that cannot be had is empty.
package environment
