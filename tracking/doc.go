// Package tracking keeps every training run in one SQLite file and answers
// questions about them afterwards.
//
// A [Store] is opened by path. A training process registers itself with
// [Store.StartRun], hands its metrics to [Run.Log], which only queues them, and
// ends with [Run.Finish]; a goroutine of the run writes batches in the
// background. Any number of processes may write into one store at once, and any
// number may read it meanwhile.
//
// The tables are made to be queried by people too: see migrations/0001_runs.sql
// for the columns of runs and of the views settings, metrics, latest, tags and
// events.
//
// A run that says it is running may be dead. Readers therefore ask whether its
// process is still there (see liveness.go) and report it as crashed if not.
package tracking
