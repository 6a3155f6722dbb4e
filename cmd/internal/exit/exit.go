// Package exit declares the exit codes of the two commands. They are part of
// koala-lm's contract: scripts and schedulers act on them.
package exit

const (
	OK          = 0
	Failed      = 1   // one line on stderr says what failed, where, and what to do
	Usage       = 2   // the command line or a settings file is wrong
	ClosedPipe  = 141 // as a shell reports it: the reader of the results ended before they were whole
	Interrupted = 130 // a signal ended the work; a training run is saved and can be resumed
)
